from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fashion_infer.errors import ImageError, ParityError
from fashion_infer.evaluation.parity import PICTURES, TOLERANCE, check_parity, compare, read_pictures
from fashion_infer.predictor import Predictor

SIZE = 64  # 8 cells a side
Outputs = dict[str, Any]


def outputs(count: int = 4) -> Outputs:
    rng = np.random.default_rng(0)
    shapes = {"category": (3,), "attributes": (5,), "landmarks": (8, 2), "visibility": (8, 3), "embedding": (4,)}
    arrays = {name: rng.random((count, *shape)).astype(np.float32) for name, shape in shapes.items()}
    arrays["landmarks"] = (rng.integers(0, 8, (count, 8, 2)) + np.float32(0.5)) / 8  # the middle of a cell
    arrays["landmarks"] = arrays["landmarks"].astype(np.float32)
    arrays["visibility"] = np.tile(np.float32([0.8, 0.1, 0.1]), (count, 8, 1))
    return arrays


def changed(name: str, index: tuple[int, ...], by: float) -> Outputs:
    arrays = outputs()
    arrays[name] = arrays[name].copy()
    arrays[name][index] += np.float32(by)
    return arrays


def test_equal_outputs_agree() -> None:
    report = compare(outputs(), outputs(), SIZE)
    assert report.images == 4
    assert report.same_cells == 1
    assert set(report.differences) == set(outputs())
    assert set(report.differences.values()) == {0.0}


@pytest.mark.parametrize("name", outputs())
def test_a_small_difference_passes_and_is_told(name: str) -> None:
    report = compare(changed(name, (0, 0), TOLERANCE / 2), outputs(), SIZE)
    assert 0 < report.differences[name] <= TOLERANCE


@pytest.mark.parametrize("name", outputs())
@pytest.mark.parametrize("by", [2 * TOLERANCE, -2 * TOLERANCE, np.nan, np.inf])
def test_a_large_difference_or_a_nan_fails_and_names_the_output(name: str, by: float) -> None:
    with pytest.raises(ParityError, match=f"parity failed: {name} differs by"):
        compare(changed(name, (1, 0), by), outputs(), SIZE)


def moved(images: int, by: float) -> tuple[Outputs, Outputs]:
    """Landmarks on a border between two cells, and some moved a little to the left, with quite another embedding."""
    expected, exported = outputs(), outputs()
    for arrays in (expected, exported):
        arrays["landmarks"] = np.full((4, 8, 2), 0.5, np.float32)
    exported["landmarks"][:images] -= np.float32(by)
    exported["embedding"][:images] += 1
    return exported, expected


def test_pictures_that_pool_from_other_cells_are_left_out_behind_the_pooling() -> None:
    report = compare(*moved(images=2, by=1e-6), SIZE)
    assert report.same_cells == 0.5
    assert report.differences["embedding"] == 0
    assert report.differences["landmarks"] > 0


def test_too_few_pictures_with_the_same_cells_fail() -> None:
    with pytest.raises(ParityError, match="only 25% of the pictures pool from the same cells"):
        compare(*moved(images=3, by=1e-6), SIZE)


def test_a_gate_that_differs_counts_as_another_cell() -> None:
    exported, expected = outputs(), outputs()
    exported["visibility"][0, 0] = [0.50001, 0.4, 0.09999]
    expected["visibility"][0, 0] = [0.49999, 0.4, 0.10001]
    assert compare(exported, expected, SIZE).same_cells == 0.75


def test_a_real_file_is_compared(onnx_model: Path) -> None:
    pictures = read_pictures(None, SIZE)[:8]
    with Predictor(onnx_model) as predictor:
        expected = predictor.run(pictures)
    assert check_parity(onnx_model, pictures, expected).differences == dict.fromkeys(expected, 0.0)
    expected["category"] = expected["category"][:, ::-1]
    with pytest.raises(ParityError, match="category differs"):
        check_parity(onnx_model, pictures, expected)


def test_rendered_pictures_are_the_default() -> None:
    pictures = read_pictures(None, SIZE)
    assert pictures.shape == (PICTURES, SIZE, SIZE, 3)
    assert pictures.dtype == np.uint8
    assert len(np.unique(pictures.reshape(PICTURES, -1), axis=0)) == PICTURES


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for grey in (40, 200):
        cv2.imwrite(str(tmp_path / f"{grey}.png"), np.full((30, 50, 3), grey, np.uint8))
    assert [int(p.mean()) for p in read_pictures(tmp_path, 32)] == [200, 40]  # sorted by name


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_pictures(tmp_path, 32)
