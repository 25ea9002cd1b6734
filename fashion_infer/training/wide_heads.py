"""A network whose heads read all of its features, with a row for each of somebody's own categories and attributes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.model_spec import ModelSpec
from fashion_infer.training.checkpoint import take_over
from fashion_infer.training.linear_head import Head
from fashion_infer.training.model import FashionNet


def with_heads_for(
    network: FashionNet, spec: ModelSpec, data: FashionData, *, add: bool
) -> tuple[FashionNet, ModelSpec, tuple[str, ...]]:
    """A copy of a network with heads for a set, in evaluation mode.

    Rows of names that the network has, whatever their case, start as they are there; others start at 0. Attributes
    that the set does not have are kept.

    Args:
        network: to start from.
        spec: its own.
        data: the set.
        add: the network's categories come first and keep their names; without it there are only those of the set.

    Returns:
        The network, its spec, and the set's categories that start from rows of the network.
    """
    same = same_names(data.category_names, spec.categories)
    categories = data.category_names
    if add:
        categories = (*spec.categories, *(name for name in categories if name not in same))
    before = spec if add else replace(spec, categories=_renamed(spec.categories, same))
    names = [name for name in data.attribute_names if name not in spec.attributes]
    groups = dict(zip(data.attribute_names, data.attribute_groups, strict=True))
    own = replace(
        spec,
        categories=categories,
        attributes=(*spec.attributes, *names),
        attribute_groups=(*spec.attribute_groups, *(groups[name] for name in names)),
    )
    arch = replace(network.arch, heads="all", num_categories=len(categories), num_attributes=len(own.attributes))
    with torch.random.fork_rng():
        wide = FashionNet(arch)
    for head in (wide.category, wide.attributes):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    take_over(wide, own, network, before)
    return wide.eval().to(memory_format=torch.channels_last), own, tuple(same)


def same_names(names: Sequence[str], model: Sequence[str]) -> dict[str, str]:
    """{name: the model's spelling of it} of those that the model has, whatever their case."""
    spellings = {name.casefold(): name for name in model} | {name: name for name in model}
    alike = {name: spellings.get(name) or spellings.get(name.casefold()) for name in names}
    return {name: theirs for name, theirs in alike.items() if theirs is not None}


def head_of(network: FashionNet, name: str) -> Head:
    """The rows of a network's head `category` or `attributes`, in float64."""
    layer = getattr(network, name)
    return Head(layer.weight.detach().double().numpy().copy(), layer.bias.detach().double().numpy().copy())


def set_head(network: FashionNet, name: str, head: Head) -> None:
    """Give a network the rows of its head `category` or `attributes`."""
    layer = getattr(network, name)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))


def renumbered(data: FashionData, categories: Sequence[str]) -> FashionData:
    """The set with its categories as numbers of a model's, by name, whatever their case; all must be among them."""
    same = same_names(data.category_names, categories)
    places = np.array([categories.index(same[name]) for name in data.category_names], np.int16)
    return replace(data, categories=places[data.categories], category_names=tuple(categories))


def _renamed(model: Sequence[str], same: dict[str, str]) -> tuple[str, ...]:
    """The model's names, each as the set spells it."""
    spelt = {theirs: own for own, theirs in same.items()}
    return tuple(spelt.get(name, name) for name in model)
