"""Networks whose heads read all features, with one row for each of the user's own categories and attributes."""

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
    """Copy a network and give it heads for the categories and attributes of a set.

    A category that the network has already, ignoring upper and lower case, starts from the network's weights; so does
    an attribute of the same name. All others start from 0. Attributes that the set does not have are kept.

    Args:
        network: The network to start from; it is not changed.
        spec: The network's ModelSpec.
        data: The set with the new categories and attributes.
        add: Keep the network's categories, in front; without it the copy has only those of the set.

    Returns:
        The copy, in evaluation mode; its ModelSpec; and the set's categories that start from the network's weights.
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
    """Match names with a model's, ignoring upper and lower case: {name: the model's spelling}."""
    spellings = {name.casefold(): name for name in model} | {name: name for name in model}
    matches = {name: spellings.get(name) or spellings.get(name.casefold()) for name in names}
    return {name: match for name, match in matches.items() if match is not None}


def head_of(network: FashionNet, name: str) -> Head:
    """Return a copy of a network's head `category` or `attributes`, in float64."""
    layer = getattr(network, name)
    return Head(layer.weight.detach().double().numpy().copy(), layer.bias.detach().double().numpy().copy())


def set_head(network: FashionNet, name: str, head: Head) -> None:
    """Set the weights of a network's head `category` or `attributes`."""
    layer = getattr(network, name)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))


def renumbered(data: FashionData, categories: Sequence[str]) -> FashionData:
    """Renumber a set's categories as in a model, matching names as `same_names` does; the model must have them all."""
    same = same_names(data.category_names, categories)
    places = np.array([categories.index(same[name]) for name in data.category_names], np.int16)
    return replace(data, categories=places[data.categories], category_names=tuple(categories))


def _renamed(model: Sequence[str], same: dict[str, str]) -> tuple[str, ...]:
    """Return the model's names, those that the set has too in the set's spelling."""
    set_spelling = {model_name: set_name for set_name, model_name in same.items()}
    return tuple(set_spelling.get(name, name) for name in model)
