"""Make the model files that the peers load, all with the same weights."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from onnx.utils import Extractor

from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES, ModelSpec

BACKBONES = {"light": "tf_efficientnet_lite0", "fashionnet": "vgg16"}
CATEGORIES, ATTRIBUTES = 50, 1000  # the paper's
SIZE = 224


@dataclass(frozen=True)
class Artefacts:
    """Files of one network.

    Attributes:
        name: `light` or `fashionnet`.
        checkpoint: Checkpoint for torch.
        onnx: The fp32 file that `fashion-infer export` writes.
        int8: The int8 file that `fashion-infer export` writes; missing if no peer needs it.
        inlined: The fp32 file without local functions, for OpenVINO.
        float_input: The inlined file without its preprocessing; its input is float [N, 3, S, S].
        mean: Mean of each channel, subtracted by the preprocessing, in grey levels.
        std: Standard deviation of each channel, by which the preprocessing divides, in grey levels.
    """

    name: str
    checkpoint: Path
    onnx: Path
    int8: Path
    inlined: Path
    float_input: Path
    mean: list[float]
    std: list[float]


def make_artefacts(name: str, checkpoint: Path | None, photos: Path, folder: Path, *, int8: bool) -> Artefacts:
    """Write the files that do not exist yet, in a subfolder named after the weights.

    Args:
        name: A key of BACKBONES.
        checkpoint: A checkpoint of `fashion-infer train`; random weights of the paper's sizes when None.
        photos: A folder of photos for the calibration of int8.
        folder: The folder for the files.
        int8: Whether the int8 file is needed.
    """
    from fashion_infer.training.checkpoint import load_checkpoint

    checkpoint = checkpoint or random_checkpoint(name, folder)
    network, spec = load_checkpoint(checkpoint)
    root = folder / f"{name}-{spec.weights_sha256[:12]}"
    files = [root / f"{part}.onnx" for part in ("fp32", "int8", "inlined", "float_input")]
    mean, std = network.mean.tolist(), network.std.tolist()
    artefacts = Artefacts(name, checkpoint, *files, mean=mean, std=std)
    root.mkdir(parents=True, exist_ok=True)
    if not artefacts.onnx.is_file():
        _export(checkpoint, "-o", artefacts.onnx)
    if int8 and not artefacts.int8.is_file():
        _export(checkpoint, "-o", artefacts.int8, "--precision", "int8", "--calibration", photos)
    if not artefacts.float_input.is_file():
        inlined = onnx.inliner.inline_local_functions(onnx.load(artefacts.onnx))
        onnx.save(inlined, artefacts.inlined)
        onnx.save(without_preprocessing(inlined), artefacts.float_input)
    return artefacts


def random_checkpoint(name: str, folder: Path) -> Path:
    """Write a checkpoint with random weights, which is as fast as a trained one, and return its path."""
    import torch

    from fashion_infer.training.checkpoint import save_checkpoint
    from fashion_infer.training.model import Architecture, FashionNet

    path = folder / f"{name}-random.safetensors"
    if not path.is_file():
        arch = Architecture(BACKBONES[name], SIZE, CATEGORIES, ATTRIBUTES)
        labels = [
            tuple(f"{kind} {i}" for i in range(n)) for kind, n in (("category", CATEGORIES), ("attribute", ATTRIBUTES))
        ]
        groups = ("texture",) * ATTRIBUTES
        spec = ModelSpec(arch.backbone, SIZE, labels[0], labels[1], groups, arch.embedding_dim, False, "")
        torch.manual_seed(0)
        save_checkpoint(path, FashionNet(arch), spec)
    return path


def without_preprocessing(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cut a model before its first convolution, without the cast, the normalisation and the transposition."""
    inferred = onnx.shape_inference.infer_shapes(model)
    first = next(node.input[0] for node in inferred.graph.node if node.op_type == "Conv")
    for node in inferred.graph.node:
        if node.op_type == "Shape":  # reads the batch size from the images; the convolution's input has the same
            node.input[0] = first if node.input[0] == INPUT_NAME else node.input[0]
    return Extractor(inferred).extract_model([first], list(OUTPUT_NAMES))


def _export(*arguments: object) -> None:
    """Run `fashion-infer export` with this Python."""
    program = "from fashion_infer.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, "export", *map(str, arguments)], check=True)
