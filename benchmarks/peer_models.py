"""The files that the peers load, all of the same weights."""

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
        name: light or fashionnet.
        checkpoint: for torch.
        onnx: as `fashion-infer export` writes it.
        int8: likewise, quantised; not written where no peer wants it.
        inlined: the fp32 file without local functions, for OpenVINO.
        float_input: the inlined file without its preprocessing: float [N, 3, S, S] in.
        mean: of each channel, in grey levels; what the preprocessing subtracts.
        std: likewise; what it divides by.
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
    """Write the files that are not there yet, below a folder named after the weights.

    Args:
        name: a key of BACKBONES.
        checkpoint: of `fashion-infer train`; random weights of the paper's sizes when None.
        photos: to calibrate int8 on.
        folder: for the files.
        int8: whether the int8 file is wanted.
    """
    from fashion_infer.training.checkpoint import load_checkpoint

    checkpoint = checkpoint or random_checkpoint(name, folder)
    network, spec = load_checkpoint(checkpoint)
    root = folder / f"{name}-{spec.weights_sha256[:12]}"
    files = [root / f"{part}.onnx" for part in ("fp32", "int8", "inlined", "float_input")]
    mean, std = network.mean.tolist(), network.std.tolist()
    made = Artefacts(name, checkpoint, *files, mean=mean, std=std)
    root.mkdir(parents=True, exist_ok=True)
    if not made.onnx.is_file():
        _export(checkpoint, "-o", made.onnx)
    if int8 and not made.int8.is_file():
        _export(checkpoint, "-o", made.int8, "--precision", "int8", "--calibration", photos)
    if not made.float_input.is_file():
        inlined = onnx.inliner.inline_local_functions(onnx.load(made.onnx))
        onnx.save(inlined, made.inlined)
        onnx.save(without_preprocessing(inlined), made.float_input)
    return made


def random_checkpoint(name: str, folder: Path) -> Path:
    """A network that was never trained: as fast as one that was."""
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
    """Begin at the first convolution: what comes before is the cast, the normalisation and the transposition."""
    inferred = onnx.shape_inference.infer_shapes(model)
    first = next(node.input[0] for node in inferred.graph.node if node.op_type == "Conv")
    for node in inferred.graph.node:
        if node.op_type == "Shape":  # the batch size is read off the images: the convolution's input has the same
            node.input[0] = first if node.input[0] == INPUT_NAME else node.input[0]
    return Extractor(inferred).extract_model([first], list(OUTPUT_NAMES))


def _export(*arguments: object) -> None:
    """Run `fashion-infer export` with this Python."""
    program = "from fashion_infer.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, "export", *map(str, arguments)], check=True)
