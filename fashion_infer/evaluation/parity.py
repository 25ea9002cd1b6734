"""Parity: the comparison of an exported file's outputs with the network's, on pictures.

LandmarkPool rounds a landmark down to a cell of the feature map. So a difference far below a pixel can move a pooling
window by a whole cell and change the pooled features abruptly. Landmarks and visibility are therefore compared on every
picture. The other outputs, which depend on the pooled features, are only compared on pictures whose cells and gates
agree. The share of these pictures is part of the result.
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
TOLERANCE = 1e-4  # largest absolute difference allowed; all outputs lie in [-1, 1]
MIN_SHARE = 0.5  # smallest share allowed of pictures whose cells agree
STRIDE = 8  # pixels per cell of LandmarkPool's feature map
PICTURES = 64
RENDER_SEED = 1_000_003  # unlikely to be the seed of a training set


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
        """Write the report as one line of JSON."""
        return json.dumps(asdict(self))


def read_pictures(photos: Path | None, size: int, count: int = PICTURES) -> NDArray[np.uint8]:
    """Read pictures from a folder, or render some, as inputs of the network for a comparison.

    Args:
        photos: a folder of pictures, of which at most `count` are chosen at even intervals; None renders garments.
        size: side S of the network's input in pixels.
        count: largest number of pictures.

    Returns:
        uint8 [N, S, S, 3] RGB, N at most `count`.

    Raises:
        ImageError: the folder holds no picture, or a picture cannot be read.
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
        tolerance: largest absolute difference allowed.

    Raises:
        ParityError: an output differs by more than the tolerance, or too few pictures have the same cells.
    """
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend  # needs an extra

    outputs = OnnxRuntimeBackend(path).run(images)
    return compare(outputs, expected, images.shape[1], tolerance)


def compare(outputs: Outputs, expected: Outputs, image_size: int, tolerance: float = TOLERANCE) -> ParityReport:
    """Compare the outputs of two runs.

    Args:
        outputs: the outputs to check, see `Predictor.run`.
        expected: the outputs that they must equal.
        image_size: side of the network's input in pixels.
        tolerance: largest absolute difference allowed.

    Raises:
        ParityError: see `check_parity`.
    """
    same = (_cells(outputs, image_size) == _cells(expected, image_size)).all(axis=(1, 2))
    differences = {}
    for name, values in expected.items():
        rows = slice(None) if name in BEFORE_POOLING else same
        # NaN counts as an infinite difference; it would compare as smaller than the tolerance
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
    """The pooling cell (x, y) of each landmark and whether its gate is open (0 or 1), [N, 8, 3]."""
    cells = np.floor(outputs["landmarks"] * np.float32(image_size // STRIDE)).clip(0, image_size // STRIDE - 1)
    return np.concatenate([cells, outputs["visibility"][..., :1] > 0.5], axis=2)
