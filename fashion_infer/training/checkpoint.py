"""Checkpoints: one safetensors file with the weights, and the ModelSpec and Architecture in its metadata. No pickle."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fashion_infer.errors import ModelError, ModelNotFoundError, OutputError, UsageError
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import METADATA_KEY, ModelSpec
from fashion_infer.training.model import Architecture, FashionNet, Vgg16

ARCHITECTURE_KEY = "fashion_infer.architecture"


def save_checkpoint(path: Path, model: FashionNet, spec: ModelSpec, embedding_sha256: str = "") -> ModelSpec:
    """Write a checkpoint under a temporary name, then rename it.

    Args:
        path: The .safetensors file to write.
        model: The network.
        spec: The network's ModelSpec.
        embedding_sha256: Hash of the embedding space of the file that the network was loaded from, if no weight that
            affects the embedding has changed since; the exported file then shares that space. Empty otherwise.

    Returns:
        The spec as written, with the hash of the weights.

    Raises:
        OutputError: The file cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    spec = dataclasses.replace(
        spec, weights_sha256=hash_weights(weights), embedding_sha256=embedding_sha256, embedding_cosine=None
    )  # if the hash is empty, the exporter computes it from the weights that affect the embedding
    metadata = {METADATA_KEY: spec.to_json(), ARCHITECTURE_KEY: json.dumps(dataclasses.asdict(model.arch))}
    try:
        write_atomically(path, lambda temporary: save_file(weights, temporary, metadata))
    except SafetensorError as error:  # also raised when the disk is full
        raise OutputError(f"{path} cannot be written: {error}") from error
    return spec


def load_checkpoint(path: Path) -> tuple[FashionNet, ModelSpec]:
    """Read a checkpoint into a FashionNet in evaluation mode, on the CPU.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: The file is not a safetensors file, is damaged, or does not hold a FashionNet, or its weights do
            not have the hash that its metadata name.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"there is no checkpoint {path}: fashion-infer train writes one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if METADATA_KEY not in metadata or ARCHITECTURE_KEY not in metadata:
        raise ModelError(f"{path} holds weights, but not a checkpoint of fashion-infer train (no {METADATA_KEY})")
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    if hash_weights(weights) != spec.weights_sha256:
        raise ModelError(f"{path} is damaged: its weights do not have the sha256 it names")
    try:
        model = FashionNet(Architecture(**json.loads(metadata[ARCHITECTURE_KEY])))
        model.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError, UsageError, ModelNotFoundError) as error:
        raise ModelError(f"{path} does not hold the FashionNet it describes: {error}") from error
    return model.eval(), spec


def load_backbone(model: FashionNet, path: Path) -> None:
    """Load ImageNet weights of torchvision or timm from a local .safetensors or .pth file into the backbone.

    Either all weights are loaded or none.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: The file cannot be read, or holds the weights of another network.
    """
    state = _read_weights(path)
    if isinstance(model.backbone, Vgg16):
        expected = model.backbone.state_dict()
        weights = {name: state.get(_vgg16_name(name)) for name in expected}
    else:
        expected = model.backbone.net.state_dict()
        state = _by_order(state, model.arch.backbone)
        # timm's features_only renames a.b to a_b, so names are compared with dots only.
        dotted = {name.replace("_", "."): tensor for name, tensor in state.items()}
        weights = {name: dotted.get(name.replace("_", ".")) for name in expected}
    fitting = {n: t for n, t in weights.items() if t is not None and t.shape == expected[n].shape}
    if missing := sorted(expected.keys() - fitting.keys()):
        raise ModelError(
            f"{path} does not fit {model.arch.backbone}: {len(missing)} of its {len(expected)} weights are missing or "
            f"have another shape, for example {missing[0]}"
        )
    target: nn.Module = model.backbone if isinstance(model.backbone, Vgg16) else model.backbone.net
    target.load_state_dict(fitting)


def load_network(model: FashionNet, spec: ModelSpec, path: Path) -> None:
    """Load all weights of a network from a checkpoint of the same architecture; the input size may differ.

    Raises:
        ModelNotFoundError: There is no such checkpoint.
        ModelError: The checkpoint is damaged, has other categories or attributes, or its weights have other shapes.
    """
    other, other_spec = load_checkpoint(path)
    if (other_spec.categories, other_spec.attributes) != (spec.categories, spec.attributes):
        raise ModelError(f"{path} has other categories or attributes: nothing can start from it")
    try:
        model.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ModelError(f"{path} is of another architecture: {error}") from error


def take_over(target: FashionNet, target_spec: ModelSpec, source: FashionNet, source_spec: ModelSpec) -> None:
    """Copy the weights of one network into another, matching categories and attributes by name.

    Rows of categories and attributes that the source lacks stay as they are. The embedding layer stays as it is if
    the two networks build it differently. If the source's heads read the fused features only and the target's heads
    read all features, the copied rows get the weight 0 for the additional features.

    Args:
        target: The network to change in place.
        target_spec: The target's ModelSpec.
        source: The network to copy from.
        source_spec: The source's ModelSpec.

    Raises:
        ModelError: The other weights have different shapes.
    """
    weights, state = source.state_dict(), target.state_dict()
    names = {"category": (target_spec.categories, source_spec.categories)}
    names["attributes"] = (target_spec.attributes, source_spec.attributes)
    for head, (target_names, source_names) in names.items():
        places = [(i, source_names.index(name)) for i, name in enumerate(target_names) if name in source_names]
        rows, sources = (list(column) for column in zip(*places, strict=True)) if places else ([], [])
        state[f"{head}.weight"][rows] = _widened(weights.pop(f"{head}.weight")[sources], source, target)
        state[f"{head}.bias"][rows] = weights.pop(f"{head}.bias")[sources]
    if target.arch.embedding != source.arch.embedding:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("embedding.")}
    try:
        target.load_state_dict({**state, **weights})
    except RuntimeError as error:
        raise ModelError(f"the network to start from is of another architecture: {error}") from error


def _widened(rows: Tensor, source: FashionNet, target: FashionNet) -> Tensor:
    """Convert rows of a head that reads the source's features into rows that read the target's features."""
    if source.arch.heads == target.arch.heads:
        return rows
    if target.arch.heads == "fused":
        raise ModelError("heads that read all features cannot become heads that read the fused ones")
    before, after = sum(target.blocks[:-2]), target.blocks[-1]  # stages, then the fused features, then the embedding
    return torch.nn.functional.pad(rows, (before, after))


def hash_weights(weights: dict[str, Tensor]) -> str:
    """Return the sha256, in hexadecimal, of the names, types, shapes and bytes of weights, ordered by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelNotFoundError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is not a weights file (safetensors, or tensors alone in a .pth): {error}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelError(f"{path} does not hold named tensors")
    return dict(state)


def _vgg16_name(name: str) -> str:
    """Return the name `features.N` of torchvision and timm for one of our names.

    There the layers of conv5 are numbered on from those of conv4; both of our copies of conv5 get the same weights.
    """
    block, layer, kind = name.split(".")
    return f"features.{int(layer) + (0 if block == 'conv4' else 23)}.{kind}"


def _by_order(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the weights of another library to timm's names, if they have the same shapes in the same order."""
    import timm

    full = timm.create_model(name).state_dict()
    same = [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in full.values()]
    return dict(zip(full, state.values(), strict=True)) if same else state
