"""Parity: the comparison of an exported file's outputs with the network's, on pictures.

The cell of a landmark is a floor, so a difference far below a pixel can move a pooling window by a whole cell and make
the pooled features jump. Landmarks and visibility are therefore compared on every picture, the outputs behind the
pooling only on those whose cells and gates agree; the share of those is part of the result.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.errors import ParityError
from fashion_infer.images import ImageSource
from fashion_infer.inputs import expand_paths
from fashion_infer.preprocess import read_inputs
from fashion_infer.synthetic.rendering import render

BEFORE_POOLING = ("landmarks", "visibility")
TOLERANCE = 1e-4  # absolute difference of every output; all of them lie in [-1, 1]
MIN_SHARE = 0.5  # least share of pictures whose cells agree
STRIDE = 8  # pixels per cell of LandmarkPool's feature map
PICTURES = 64
RENDER_SEED = 1_000_003  # far from the seeds that people train with


@dataclass(frozen=True)
class ParityReport:
    """The result of a comparison.

    Attributes:
        images: number of pictures compared.
        same_cells: share in [0, 1] of the pictures whose pooling cells and gates agree.
        differences: greatest absolute difference of each output.
        tolerance: largest difference allowed.
    """

    images: int
    same_cells: float
    differences: dict[str, float]
    tolerance: float = TOLERANCE

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def read_pictures(photos: Path | None, size: int, count: int = PICTURES) -> NDArray[np.uint8]:
    """Pictures for a comparison, as the network's input: some from a folder, spread evenly, or rendered ones.

    Args:
        photos: a folder of pictures; rendered garments when None.
        size: side S of the network's input, pixels.
        count: largest number of pictures.

    Returns:
        uint8 [N, S, S, 3] RGB, N at most `count`.

    Raises:
        ImageError: the folder holds no pictures, or one cannot be read.
    """
    sources: list[ImageSource]
    if photos is None:
        sources = [render(RENDER_SEED, index).image for index in range(count)]
    else:
        paths = expand_paths([str(photos)])
        sources = [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else list(paths)
    return read_inputs(sources, size)


def check_parity(
    path: Path, images: NDArray[np.uint8], expected: Outputs, tolerance: float = TOLERANCE
) -> ParityReport:
    """Run an ONNX file with ONNX Runtime on the CPU and compare it with the expected outputs.

    Args:
        path: path of the .onnx file.
        images: uint8 [N, S, S, 3] RGB.
        expected: the network's outputs for these images, as from `Predictor.run`.
        tolerance: greatest absolute difference of any output.

    Raises:
        ParityError: an output differs by more than the tolerance, or too few pictures have the same cells.
    """
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend  # needs an extra

    outputs = OnnxRuntimeBackend(path).run(images)
    return compare(outputs, expected, images.shape[1], tolerance)


def compare(outputs: Outputs, expected: Outputs, image_size: int, tolerance: float = TOLERANCE) -> ParityReport:
    """Compare two runs output by output; raises ParityError as `check_parity` does."""
    same = (_cells(outputs, image_size) == _cells(expected, image_size)).all(axis=(1, 2))
    differences = {}
    for name, values in expected.items():
        rows = slice(None) if name in BEFORE_POOLING else same
        # nan_to_num: a NaN on one side must not pass as "no difference"
        gap = np.nan_to_num(np.abs(outputs[name][rows] - values[rows]), nan=np.inf)
        differences[name] = float(gap.max(initial=0.0))
    report = ParityReport(len(same), float(same.mean()), differences, tolerance)
    worst = max(differences, key=lambda name: differences[name])
    if differences[worst] > tolerance:
        raise ParityError(
            f"parity failed: {worst} differs by {differences[worst]:.2g}, more than {tolerance:g} ({report})"
        )
    if report.same_cells < MIN_SHARE:
        raise ParityError(f"parity failed: only {report.same_cells:.0%} of the pictures pool from the same cells")
    return report


def _cells(outputs: Outputs, image_size: int) -> NDArray[np.float32]:
    """[N, 8, 3]: each landmark's cell (x, y) and whether its gate is open."""
    cells = np.floor(outputs["landmarks"] * np.float32(image_size // STRIDE)).clip(0, image_size // STRIDE - 1)
    return np.concatenate([cells, outputs["visibility"][..., :1] > 0.5], axis=2)
