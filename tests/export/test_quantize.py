import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError, ImageError, ModelError, ModelNotFoundError, ParityError, UsageError
from fashion_infer.evaluation.parity import read_pictures
from fashion_infer.export.quantize import LIMITS, Int8Options, Int8Report, differences, quantize_file
from fashion_infer.images import read_image
from fashion_infer.model_spec import LANDMARK_NAMES, METADATA_KEY, MIN_EMBEDDING_COSINE, PARITY_KEY
from fashion_infer.onnx_file import load_onnx, precision_of

POINTS = len(LANDMARK_NAMES)


@pytest.fixture(scope="module")
def made(onnx_model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Int8Report]:
    path = tmp_path_factory.mktemp("int8") / "new folder" / "model.int8.onnx"
    return path, quantize_file(onnx_model, path, Int8Options(pictures))


@pytest.fixture(scope="module")
def labelled(onnx_model: Path, pictures: Path) -> FashionData:
    """The pictures, labelled with what the fp32 file says of them: it is always right."""
    paths = sorted(pictures.iterdir())
    outputs = OnnxRuntimeBackend(onnx_model).run(read_pictures(pictures, 64))
    spec, count = load_onnx(onnx_model)[1], len(paths)
    sizes = np.float32([(picture.width, picture.height) for picture in map(read_image, paths)])
    return FashionData(
        image_root=pictures,
        images=tuple(path.name for path in paths),
        splits=np.full(count, "val"),
        boxes=np.hstack([np.zeros_like(sizes), sizes]),
        categories=outputs["category"].argmax(1).astype(np.int16),
        attributes=np.zeros((count, len(spec.attributes)), np.int8),
        landmarks=(outputs["landmarks"] + np.float32(0.03)) * sizes[:, None],
        visibility=np.zeros((count, POINTS), np.int8),
        clothes_types=np.full(count, 3, np.int8),
        items=np.full(count, -1, np.int32),
        domains=np.zeros(count, np.int8),
        category_names=spec.categories,
        attribute_names=spec.attributes,
        attribute_groups=spec.attribute_groups,
    )


def test_the_file_speaks_for_itself(made: tuple[Path, Int8Report], onnx_model: Path) -> None:
    path, report = made
    model, spec = load_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.keys() == {METADATA_KEY, PARITY_KEY}
    before = load_onnx(onnx_model)[1]
    agrees = spec.embedding_cosine is not None and spec.embedding_cosine >= MIN_EMBEDDING_COSINE
    assert replace(spec, embedding_cosine=None, embedding_sha256=before.embedding_sha256) == before
    assert (spec.embedding_space == before.embedding_space) is agrees
    assert model.producer_name == "fashion-infer"
    assert precision_of(model) == "int8"
    assert json.loads(metadata[PARITY_KEY]) == {**vars(report), "accuracy": "unverified"}
    assert (report.target, report.images, report.layers, report.float_layers) == ("cpu", 6, 25, [])
    assert path.stat().st_size < 0.35 * onnx_model.stat().st_size
    assert list(path.parent.iterdir()) == [path]


def test_it_gives_nearly_what_fp32_gives_on_pictures_it_never_saw(
    made: tuple[Path, Int8Report], onnx_model: Path
) -> None:
    fresh = read_pictures(None, 64, 16)
    apart = differences(OnnxRuntimeBackend(made[0]).run(fresh), OnnxRuntimeBackend(onnx_model).run(fresh))
    assert all(0 < apart[name] < LIMITS[name] for name in ("landmarks", "embedding"))
    assert all(apart[name] < LIMITS[name] for name in LIMITS)


def test_for_tensorrt(onnx_model: Path, pictures: Path, tmp_path: Path) -> None:
    from fashion_infer.tensorrt.build_checks import check_quantizers

    report = quantize_file(onnx_model, tmp_path / "a.onnx", Int8Options(pictures, "tensorrt"))
    assert report.target == "tensorrt"
    check_quantizers(load_onnx(tmp_path / "a.onnx")[0])


# ---- differences


def outputs(count: int = 2) -> dict[str, np.ndarray]:
    return {
        "category": np.tile(np.float32([0.7, 0.2, 0.1]), (count, 1)),
        "attributes": np.full((count, 4), 0.5, np.float32),
        "landmarks": np.full((count, POINTS, 2), 0.5, np.float32),
        "visibility": np.tile(np.float32([1, 0, 0]), (count, POINTS, 1)),
        "embedding": np.tile(np.float32([1, 0]), (count, 1)),
    }


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("category", [0.6, 0.3, 0.1], 0.05),  # a tenth of the probability moved, in one picture of two
        ("attributes", [0.5, 0.7, 0.4, 0.5], 0.1),
        ("landmarks", np.full((POINTS, 2), (0.53, 0.54)), 0.025),
        ("visibility", np.tile([0.5, 0.5, 0], (POINTS, 1)), 0.25),
        ("embedding", [0, 1], 2**0.5 / 2),
    ],
)
def test_a_difference_by_hand(name: str, row: object, expected: float) -> None:
    changed = outputs()
    changed[name][0] = row
    apart = differences(changed, outputs())
    assert apart.pop(name) == pytest.approx(expected, rel=1e-5)
    assert set(apart.values()) == {0}


@pytest.mark.parametrize("name", list(LIMITS))
def test_nan_is_a_difference(name: str) -> None:
    changed = outputs()
    changed[name][1, 0] = np.nan
    assert differences(changed, outputs())[name] == np.inf


def test_a_model_without_attributes() -> None:
    none = outputs() | {"attributes": np.zeros((2, 0), np.float32)}
    assert differences(none, none)["attributes"] == 0


# ---- layers in float


def test_the_worst_layers_go_back_to_float_until_the_rest_passes(
    onnx_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = quantize_file(onnx_model, tmp_path / "all.onnx", Int8Options(pictures)).differences
    monkeypatch.setitem(LIMITS, "landmarks", 0.85 * before["landmarks"])
    report = quantize_file(onnx_model, tmp_path / "some.onnx", Int8Options(pictures))
    assert len(report.float_layers) in (1, 2, 4, 8)
    assert report.differences["landmarks"] <= LIMITS["landmarks"] < before["landmarks"]
    model, _ = load_onnx(tmp_path / "some.onnx")
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {node.name for node in products if node.input[1] in weights} == {products[0].name, *report.float_layers}


def test_what_cannot_be_had_leaves_nothing(
    onnx_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "embedding", 1e-9)
    with pytest.raises(
        ParityError, match=r"even with the worst 8 of 25 layers in float: embedding differs by .* \(lim"
    ):
        quantize_file(onnx_model, tmp_path / "a.onnx", Int8Options(pictures))
    assert list(tmp_path.iterdir()) == []


# ---- accuracy


def test_with_labels_the_accuracy_is_in_the_file(
    onnx_model: Path, pictures: Path, labelled: FashionData, tmp_path: Path
) -> None:
    report = quantize_file(onnx_model, tmp_path / "a.onnx", Int8Options(pictures, data=labelled, budget=0.1))
    assert report.accuracy is not None
    assert report.accuracy.keys() == {"category_top1", "landmark_error_box"}, "the best 3 of 3 would say nothing"
    assert report.accuracy["category_top1"][0] == 1
    assert report.accuracy["landmark_error_box"][0] == pytest.approx(0.03 * 2**0.5, rel=1e-3)
    metadata = {entry.key: entry.value for entry in load_onnx(tmp_path / "a.onnx")[0].metadata_props}
    accuracy = {name: list(pair) for name, pair in report.accuracy.items()}
    assert json.loads(metadata[PARITY_KEY])["accuracy"] == accuracy


def test_a_metric_over_budget_fails_and_the_old_file_stays(
    onnx_model: Path, pictures: Path, labelled: FashionData, tmp_path: Path
) -> None:
    sizes = labelled.boxes[:, None, 2:]
    exact = replace(labelled, landmarks=labelled.landmarks - np.float32(0.03) * sizes)  # fp32 has no error at all
    output = tmp_path / "a.onnx"
    output.write_text("old")
    with pytest.raises(
        ParityError, match=r"landmark_error_box is 0\.00\d\d, fp32 gives 0\.0000 \(budget 10\.0% of it\)"
    ):
        quantize_file(onnx_model, output, Int8Options(pictures, data=exact, budget=0.1))
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_data_without_labels(onnx_model: Path, pictures: Path, labelled: FashionData, tmp_path: Path) -> None:
    nothing = replace(
        labelled,
        categories=np.full_like(labelled.categories, -1),
        visibility=np.full_like(labelled.visibility, -1),
    )
    with pytest.raises(DataError, match="no labels for any of category_top1"):
        quantize_file(onnx_model, tmp_path / "a.onnx", Int8Options(pictures, data=nothing))
    assert list(tmp_path.iterdir()) == []


# ---- what cannot be used


def test_bad_sources(made: tuple[Path, Int8Report], pictures: Path, checkpoint: Path, tmp_path: Path) -> None:
    output, options = tmp_path / "a.onnx", Int8Options(pictures)
    with pytest.raises(ModelNotFoundError, match="there is no model file"):
        quantize_file(tmp_path / "none.onnx", output, options)
    with pytest.raises(ModelError, match="is not an ONNX file"):
        quantize_file(checkpoint, output, options)
    with pytest.raises(UsageError, match="is int8 already: give the fp32 file or its checkpoint"):
        quantize_file(made[0], output, options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", [-0.01, float("nan")])
def test_bad_budgets(budget: float, onnx_model: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the budget must be at least 0"):
        quantize_file(onnx_model, tmp_path / "a.onnx", Int8Options(pictures, budget=budget))


def test_bad_pictures(onnx_model: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"
    few, broken = tmp_path / "few", tmp_path / "broken"
    shutil.copytree(pictures, broken)
    (broken / "00.png").write_bytes(b"no picture")
    few.mkdir()
    for picture in sorted(pictures.iterdir())[:15]:
        shutil.copy(picture, few)
    with pytest.raises(UsageError, match="few holds 15 pictures, calibration needs at least 16"):
        quantize_file(onnx_model, output, Int8Options(few))
    with pytest.raises(ImageError, match=r"00\.png"):
        quantize_file(onnx_model, output, Int8Options(broken))
    with pytest.raises(ImageError, match="holds no images"):
        (tmp_path / "empty").mkdir()
        quantize_file(onnx_model, output, Int8Options(tmp_path / "empty"))
    assert not output.exists()


def test_pictures_are_spread_over_the_folder(pictures: Path) -> None:
    some = read_pictures(pictures, 64, 6)
    np.testing.assert_array_equal(some, read_pictures(pictures, 64)[::4])


# ---- the command line


def export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fashion_infer.cli import main; main()", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_export_from_a_checkpoint(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.onnx"
    result = export(checkpoint, "-o", output, "--precision", "int8", "--calibration", pictures)
    assert (result.returncode, result.stderr) == (0, "")
    assert "25 of 25 layers in 8 bits" in result.stdout
    assert "accuracy unverified" in result.stdout
    assert precision_of(load_onnx(output)[0]) == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "give a folder of them as --calibration"),
        (["--precision", "bf16", "--calibration", "photos"], "--calibration and --data go with --precision int8"),
        (["--precision", "fp16", "--data", "labels"], "--calibration and --data go with --precision int8"),
    ],
)
def test_export_with_half_of_the_options(arguments: list[str], message: str, onnx_model: Path, tmp_path: Path) -> None:
    result = export(onnx_model, "-o", tmp_path / "a.onnx", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
