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
        path: of the file.
        model: the network.
        spec: its own.
        embedding_sha256: of the file that the network came from, where no weight that reaches the embedding was
            changed since: the exported file then has that file's embedding space. Empty where one was changed.

    Returns:
        The spec as written, with the hash of these weights.

    Raises:
        OutputError: it cannot be written.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    spec = dataclasses.replace(
        spec, weights_sha256=hash_weights(weights), embedding_sha256=embedding_sha256, embedding_cosine=None
    )  # where it is empty, the exporter finds out which of them reach the embedding
    metadata = {METADATA_KEY: spec.to_json(), ARCHITECTURE_KEY: json.dumps(dataclasses.asdict(model.arch))}
    try:
        write_atomically(path, lambda temporary: save_file(weights, temporary, metadata))
    except SafetensorError as error:  # it has no other error for a full disk
        raise OutputError(f"{path} cannot be written: {error}") from error
    return spec


def load_checkpoint(path: Path) -> tuple[FashionNet, ModelSpec]:
    """Read a checkpoint into a FashionNet in evaluation mode, on the CPU.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: not a safetensors file, damaged, not a FashionNet's, or its weights are not those it names.
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
    """Fill the backbone from a local file of ImageNet weights, .safetensors or .pth, of torchvision or timm.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: unreadable, or weights of another network; nothing is loaded by halves.
    """
    state = _read_weights(path)
    if isinstance(model.backbone, Vgg16):
        wanted = model.backbone.state_dict()
        found = {name: state.get(_vgg16_name(name)) for name in wanted}
    else:
        wanted = model.backbone.net.state_dict()
        state = _by_order(state, model.arch.backbone)
        by_words = {
            name.replace("_", "."): tensor for name, tensor in state.items()
        }  # features_only renames a.b to a_b
        found = {name: by_words.get(name.replace("_", ".")) for name in wanted}
    fitting = {n: t for n, t in found.items() if t is not None and t.shape == wanted[n].shape}
    if wrong := sorted(wanted.keys() - fitting.keys()):
        raise ModelError(
            f"{path} does not fit {model.arch.backbone}: {len(wrong)} of its {len(wanted)} weights, as {wrong[0]}"
        )
    target: nn.Module = model.backbone if isinstance(model.backbone, Vgg16) else model.backbone.net
    target.load_state_dict(fitting)


def load_network(model: FashionNet, spec: ModelSpec, path: Path) -> None:
    """Fill a network from a checkpoint of one like it, whose input may have had another size.

    Raises:
        ModelError: it names other categories or attributes, or its weights have other shapes; and as
            `load_checkpoint` does.
    """
    other, other_spec = load_checkpoint(path)
    if (other_spec.categories, other_spec.attributes) != (spec.categories, spec.attributes):
        raise ModelError(f"{path} has other categories or attributes: nothing can start from it")
    try:
        model.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ModelError(f"{path} is of another architecture: {error}") from error


def take_over(target: FashionNet, target_spec: ModelSpec, source: FashionNet, source_spec: ModelSpec) -> None:
    """Fill a network from another one; categories and attributes that both name keep their rows, by name.

    Rows of names that the source lacks stay as they are, and so does an embedding of another kind. Rows that read the
    fused features alone do so in a network whose heads read all features, too: their other weights are 0.

    Raises:
        ModelError: other weights have other shapes.
    """
    weights, state = source.state_dict(), target.state_dict()
    names = {"category": (target_spec.categories, source_spec.categories)}
    names["attributes"] = (target_spec.attributes, source_spec.attributes)
    for head, (wanted, there) in names.items():
        places = [(i, there.index(name)) for i, name in enumerate(wanted) if name in there]
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
    """Rows of a head that reads the source's features as rows of one that reads the target's."""
    if source.arch.heads == target.arch.heads:
        return rows
    if target.arch.heads == "fused":
        raise ModelError("heads that read all features cannot become heads that read the fused ones")
    before, after = sum(target.blocks[:-2]), target.blocks[-1]  # stages, then the fused features, then the embedding
    return torch.nn.functional.pad(rows, (before, after))


def hash_weights(weights: dict[str, Tensor]) -> str:
    """sha256, in hexadecimal, over names, types, shapes and bytes in the order of the names."""
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
    """Ours -> torchvision's and timm's `features.N`: conv5 continues conv4's numbering, for both of its copies."""
    block, layer, kind = name.split(".")
    return f"features.{int(layer) + (0 if block == 'conv4' else 23)}.{kind}"


def _by_order(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give timm's names to a foreign file that has timm's tensors, every one, in timm's order."""
    import timm

    full = timm.create_model(name).state_dict()
    same = [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in full.values()]
    return dict(zip(full, state.values(), strict=True)) if same else state
