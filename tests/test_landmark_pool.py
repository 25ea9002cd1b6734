"""One test for every implementation of LandmarkPool: numpy (the definition), torch, and the ONNX function."""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_infer.export.landmark_pool import OPSET, add_landmark_pool
from fashion_infer.landmark_pool import landmark_pool
from fashion_infer.training.landmark_pool import landmark_pool as torch_landmark_pool

Array = np.ndarray
Case = tuple[Array, Array, Array, int, int]
TYPES = {np.dtype(np.float32): "float", np.dtype(np.float16): "float16"}


@cache
def onnx_model(features: str, locations: str, k: int, s: int) -> onnx.ModelProto:
    text = f"""
        <ir_version: 10, opset_import: ["" : {OPSET}, "fashion_infer" : 1]>
        pool ({features}[N, C, H, W] X, {locations}[N, P, 2] L, {locations}[N, P] V)
            => ({features}[N, P, C, k, k2] Y) {{
            Y = fashion_infer.LandmarkPool <pooled_size = {k}, bin_size = {s}> (X, L, V)
        }}"""
    model = onnx.parser.parse_model(text)
    add_landmark_pool(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@cache
def session(features: str, locations: str, k: int, s: int) -> ort.InferenceSession:
    model = onnx_model(features, locations, k, s)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def by_numpy(x: Array, points: Array, gate: Array, k: int, s: int) -> Array:
    return landmark_pool(x, points, gate, k, s)


def by_torch(x: Array, points: Array, gate: Array, k: int, s: int) -> Array:
    return torch_landmark_pool(*map(torch.from_numpy, (x, points, gate)), k, s).numpy()


def by_onnxruntime(x: Array, points: Array, gate: Array, k: int, s: int) -> Array:
    pooled = session(TYPES[x.dtype], TYPES[points.dtype], k, s).run(None, {"X": x, "L": points, "V": gate})[0]
    return np.asarray(pooled)


def by_onnx_reference(x: Array, points: Array, gate: Array, k: int, s: int) -> Array:
    evaluator = onnx.reference.ReferenceEvaluator(onnx_model(TYPES[x.dtype], TYPES[points.dtype], k, s))
    with np.errstate(invalid="ignore"):
        return np.asarray(evaluator.run(None, {"X": x, "L": points, "V": gate})[0])


IMPLEMENTATIONS = [by_numpy, by_torch, by_onnxruntime, by_onnx_reference]
every_implementation = pytest.mark.parametrize("pool", IMPLEMENTATIONS)
Pool = Callable[[Array, Array, Array, int, int], Array]


def plainly(x: Array, points: Array, gate: Array, k: int, s: int) -> Array:
    """The contract word by word, one cell at a time."""
    batch, channels, height, width = x.shape
    out = np.zeros((batch, points.shape[1], channels, k, k), x.dtype)
    for n, p, c, i, j in np.ndindex(out.shape):
        lx, ly, v = np.float32(points[n, p, 0]), np.float32(points[n, p, 1]), gate[n, p]
        if np.isnan([lx, ly, v]).any() or v <= 0:
            continue
        cx = int(np.clip(np.floor(lx * np.float32(width)), 0, width - 1))
        cy = int(np.clip(np.floor(ly * np.float32(height)), 0, height - 1))
        rows = range(cy - k * s // 2 + i * s, cy - k * s // 2 + (i + 1) * s)
        columns = range(cx - k * s // 2 + j * s, cx - k * s // 2 + (j + 1) * s)
        cells = [
            x[n, c, a, b] if 0 <= a < height and 0 <= b < width else x.dtype.type(0) for a in rows for b in columns
        ]
        out[n, p, c, i, j] = max(cells) * v.astype(x.dtype)
    return out


@st.composite
def cases(draw: st.DrawFn, least: int = 0) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, c, p = draw(st.integers(least, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    k, s = draw(st.sampled_from([(4, 2), (3, 1), (1, 1), (2, 3), (7, 1)]))
    x = rng.integers(-3, 4, (n, c, height, width)) if draw(st.booleans()) else rng.normal(0, 9, (n, c, height, width))
    ends = [0.0, 1.0, -0.3, 1.7, np.nan, np.inf, -np.inf, np.nextafter(np.float32(1), np.float32(0))]
    borders = [i / width for i in range(width + 1)] + [i / height for i in range(height + 1)]
    points = np.where(rng.random((n, p, 2)) < 0.5, rng.choice(ends + borders, (n, p, 2)), rng.random((n, p, 2)))
    gate = rng.choice([0, 0.25, 0.7, 1, 1, 1, -1, np.nan], (n, p))
    kind, locations = draw(st.sampled_from([np.float32, np.float16])), draw(st.sampled_from([np.float32, np.float16]))
    return x.astype(kind), points.astype(locations), gate.astype(locations), k, s


def assert_equal(pooled: Array, expected: Array) -> None:
    assert pooled.dtype == expected.dtype
    np.testing.assert_array_equal(pooled, expected)  # of one shape, and every value exactly


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_definition_is_the_contract(case: Case) -> None:
    assert_equal(by_numpy(*case), plainly(*case))


@pytest.mark.parametrize("pool", [by_torch, by_onnxruntime])
@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_every_implementation_gives_the_definitions_values(pool: Pool, case: Case) -> None:
    assert_equal(pool(*case), by_numpy(*case))


@settings(max_examples=25, deadline=None)
@given(case=cases(least=1))  # onnx.reference cannot gather from an empty batch
def test_the_onnx_reference_gives_them_too(case: Case) -> None:
    assert_equal(by_onnx_reference(*case), by_numpy(*case))


def numbered(height: int, width: int) -> Array:
    return np.arange(1, height * width + 1, dtype=np.float32).reshape(1, 1, height, width)


def at(x: float, y: float, gate: float = 1) -> tuple[Array, Array]:
    return np.array([[[x, y]]], np.float32), np.array([[gate]], np.float32)


@every_implementation
def test_the_landmark_is_in_the_middle_of_its_window_not_in_its_corner(pool: Pool) -> None:
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 4, 4] = 5
    pooled = pool(x, *at(4.5 / 8, 4.5 / 8), 4, 2)[0, 0, 0]
    assert np.argwhere(pooled).tolist() == [
        [2, 2]
    ]  # rows 0 to 7 in bins of 2, the landmark's own cell begins the third


@every_implementation
def test_x_runs_along_the_width(pool: Pool) -> None:
    pooled = pool(numbered(2, 4), *at(0.9, 0.1), 1, 1)
    assert pooled.item() == 4


@every_implementation
def test_cells_outside_the_map_count_as_zero(pool: Pool) -> None:
    pooled = pool(-numbered(2, 2), *at(0, 0), 2, 1)[0, 0, 0]
    assert pooled.tolist() == [[0, 0], [0, -1]]


@every_implementation
def test_a_corner_window_pools_no_infinity_from_where_there_is_nothing(pool: Pool) -> None:
    assert np.isfinite(pool(numbered(3, 3), *at(1, 1), 4, 2)).all()


@every_implementation
@pytest.mark.parametrize("x", [np.inf, -np.inf, np.nan])
def test_a_closed_gate_gives_exactly_zero_whatever_the_features(pool: Pool, x: float) -> None:
    features = np.full((1, 2, 4, 4), x, np.float32)
    for gate in (0, -1, np.nan):
        assert not pool(features, *at(0.5, 0.5, gate), 2, 2).any()
    assert not pool(features, *at(np.nan, 0.5), 2, 2).any()


@every_implementation
def test_the_features_are_gated_not_the_place(pool: Pool) -> None:
    whole, half = (pool(numbered(8, 8), *at(0.8, 0.7, gate), 2, 2) for gate in (1, 0.5))
    assert whole.any()
    assert_equal(half, whole / 2)


@pytest.mark.parametrize(
    ("features", "landmarks", "gate", "sizes"),
    [
        ((1, 2, 3), (1, 1, 2), (1, 1), (1, 1)),
        ((1, 2, 3, 3), (2, 1, 2), (2, 1), (1, 1)),
        ((1, 2, 3, 3), (1, 1, 3), (1, 1), (1, 1)),
        ((1, 2, 3, 3), (1, 2, 2), (1, 1), (1, 1)),
        ((1, 2, 3, 3), (1, 1, 2), (1, 1), (0, 1)),
        ((1, 2, 3, 3), (1, 1, 2), (1, 1), (1, -1)),
    ],
)
@pytest.mark.parametrize("pool", [by_numpy, by_torch])
def test_what_does_not_fit_is_refused(pool: Pool, features: tuple[int, ...], landmarks: tuple[int, ...],
                                      gate: tuple[int, ...], sizes: tuple[int, int]) -> None:  # fmt: skip
    arrays = [np.zeros(shape, np.float32) for shape in (features, landmarks, gate)]
    with pytest.raises(ValueError, match=r"expected features|must be at least 1"):
        pool(*arrays, *sizes)
