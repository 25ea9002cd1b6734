"""Rebuild the trainable network from an exported fp32 file, so that nothing but the .onnx file has to be kept.

The exporter keeps the names of the network's weights, but folds each batch normalisation into the convolution before
it. Here each one becomes a neutral normalisation that only adds the folded bias, which restores the function exactly.
`training.batch_norm` can then set the statistics of real pictures, again without changing the function, so that
training can normalise by batches.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from fashion_infer.errors import ModelError, ModelNotFoundError, UsageError, missing_extra
from fashion_infer.model_spec import ModelSpec
from fashion_infer.onnx_file import load_onnx, precision_of

try:
    import torch
    from onnx import numpy_helper
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra(error.name or "torch", "export", error) from error

from fashion_infer.models import find_model
from fashion_infer.training.checkpoint import ARCHITECTURE_KEY, load_checkpoint
from fashion_infer.training.model import Architecture, FashionNet

PREFIX = "model."  # of the weights' names in a file: the network is the attribute `model` of the exported module


def load_model(model: str) -> tuple[FashionNet, ModelSpec]:
    """Load a network and its ModelSpec.

    Args:
        model: Path of a checkpoint or an .onnx file, or the name of a built-in model.

    Raises:
        ModelNotFoundError: There is no such file and no such built-in model.
        ModelError: The file cannot be used, see `load_checkpoint` and `network_from_onnx`.
    """
    path = find_model(model)
    return load_checkpoint(path) if path.suffix == ".safetensors" else network_from_onnx(path)


def network_from_onnx(path: Path, architecture: Architecture | None = None) -> tuple[FashionNet, ModelSpec]:
    """Rebuild the network that an fp32 file was exported from, in evaluation mode, on the CPU.

    Args:
        path: An .onnx file of fashion-infer.
        architecture: Architecture of the network; only for files that do not store it, written before version 0.2.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelError: The file is not an ONNX file of fashion-infer, not in fp32, or stores no architecture; or its
            weights do not fit the architecture, for example because the exporter folded more than batch normalisation,
            such as ConvNeXt's layer scale.
    """
    model, spec = load_onnx(path)
    if (precision := precision_of(model)) != "fp32":
        raise ModelError(f"{path} is in {precision}: only an fp32 file holds the weights that can be trained on")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if architecture is None and ARCHITECTURE_KEY not in metadata:
        raise ModelError(f"{path} does not say how its network is built ({ARCHITECTURE_KEY}): export it again")
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    folded = {
        node.input[1].removeprefix(PREFIX).removesuffix(".weight"): tensors[node.input[2]]
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in tensors
    }
    try:
        if ARCHITECTURE_KEY in metadata:
            architecture = Architecture(**json.loads(metadata[ARCHITECTURE_KEY]))
        network = FashionNet(cast(Architecture, architecture))
        network.load_state_dict(_unfolded(network, weights, folded))
    except (TypeError, ValueError, KeyError, RuntimeError, UsageError, ModelNotFoundError) as error:
        raise ModelError(f"{path} does not hold the FashionNet it describes: {error}") from error
    return network.eval(), spec


def _unfolded(network: FashionNet, weights: dict[str, Tensor], folded: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's state dict, with each batch normalisation adding the bias folded into its convolution.

    Args:
        network: The network to fill.
        weights: Weights of the file by their names in the network.
        folded: Biases of the file's convolutions by the convolution's name.

    Raises:
        KeyError: A convolution of the network has no bias in the file.
        ValueError: Weights of the network are missing from the file.
    """
    state = dict(network.state_dict())
    for name in state:
        if name in weights:
            state[name] = weights[name]
    restored = {name for name in state if name in weights}
    for convolution, normalisation, module in _normalised_convolutions(network):
        neutral = {
            "weight": torch.full_like(module.weight, (1 + module.eps) ** 0.5),
            "bias": folded[convolution],
            "running_mean": torch.zeros_like(module.bias),
            "running_var": torch.ones_like(module.bias),
            "num_batches_tracked": torch.tensor(0),
        }
        for part, tensor in neutral.items():
            state[f"{normalisation}.{part}"] = tensor
            restored.add(f"{normalisation}.{part}")
    if missing := sorted(state.keys() - restored):
        raise ValueError(f"the file lacks {len(missing)} of its weights, for example {missing[0]}")
    return state


def _normalised_convolutions(network: nn.Module) -> Iterator[tuple[str, str, nn.BatchNorm2d]]:
    """Yield (name of the convolution, name of the batch normalisation, batch normalisation) for each such pair."""
    before = ""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            before = name
        elif isinstance(module, nn.BatchNorm2d):
            yield before, name, module
