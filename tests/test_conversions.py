"""Conversions of predictions, read back by the tools that they are for."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv

from fashion_infer import to_classifications, to_coco, to_dataframe, to_detections, to_keypoints
from fashion_infer.conversions import columns, to_row
from fashion_infer.errors import ImageError
from fashion_infer.images import ImageSource
from fashion_infer.model_spec import LANDMARK_NAMES, ModelSpec
from fashion_infer.prediction import Prediction, from_outputs
from fashion_infer.preprocess import Crop

SPEC = ModelSpec(
    arch="vgg16",
    image_size=32,
    categories=("Tee", "Skirt", "Dress"),
    attributes=("floral", "denim"),
    attribute_groups=("texture", "fabric"),
    embedding_dim=4,
    trained=True,
    weights_sha256="ab" * 32,
)
CATEGORY = (0.1, 0.3, 0.6)


def predict(source: ImageSource = "a.jpg", x: float = 100, category: tuple[float, ...] = CATEGORY) -> Prediction:
    row = {
        "category": np.array(category, np.float32),
        "attributes": np.array([0.9, 0.7], np.float32),
        "landmarks": np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2),
        "visibility": np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], *[[0.1, 0.3, 0.6]] * 6], np.float32),
        "embedding": np.full(4, 0.5, np.float32),
    }
    crop = Crop(np.zeros((32, 32, 3), np.uint8), (x, 50.0), (200.0, 400.0))
    return from_outputs(row, crop, SPEC, source=source, width=640, height=480, timing={"compute": 1.0})


FAILED = Prediction.failed("bad.jpg", ImageError("bad.jpg is empty"))
GOOD = predict()
BOTH = [GOOD, FAILED, replace(predict("b.jpg", x=10, category=(0.7, 0.2, 0.1)), is_garment=0.25, colors=None)]


# ---- rows and data frames


def test_a_row_is_flat() -> None:
    row = to_row(GOOD, LANDMARK_NAMES)
    assert list(row) == columns(LANDMARK_NAMES)
    assert [row[name] for name in ("image", "width", "height", "x1", "y1", "x2", "y2")] == [
        *("a.jpg", 640, 480),
        *(100, 50, 300, 450),
    ]
    assert (row["category"], row["is_garment"], row["error"]) == ("Dress", None, None)
    assert row["attributes"] == ["floral", "denim"]
    assert row["colors"] == ["black"]
    assert to_row(BOTH[2], LANDMARK_NAMES)["colors"] is None
    assert (row["left_collar_x"], row["left_collar_visibility"]) == (100, "visible")


def test_a_failed_prediction_has_the_same_columns() -> None:
    row = to_row(FAILED, LANDMARK_NAMES)
    assert list(row) == columns(LANDMARK_NAMES)
    assert {name for name, value in row.items() if value is not None} == {"image", "error"}
    assert row["error"] == "ImageError: bad.jpg is empty"


@pytest.mark.parametrize("library", ["pandas", "polars", None])
def test_a_data_frame_has_a_row_a_prediction(library: str | None) -> None:
    frame = to_dataframe(iter(BOTH), library=library, embedding=True)
    assert type(frame).__module__.split(".")[0] == (library or "pandas")
    assert list(frame.columns) == [*columns(LANDMARK_NAMES), "embedding"]
    assert list(frame["image"]) == ["a.jpg", "bad.jpg", "b.jpg"]
    assert list(frame["category"])[::2] == ["Dress", "Tee"]
    assert list(frame["error"])[1] == "ImageError: bad.jpg is empty"
    assert list(frame["left_collar_x"])[::2] == [100, 10]
    assert list(frame["attributes"][0]) == ["floral", "denim"]
    assert list(frame["colors"][0]) == ["black"]
    assert np.asarray(frame["embedding"][0]).tolist() == [0.5] * 4


@pytest.mark.parametrize("predictions", [[], [FAILED]])
def test_a_data_frame_of_nothing_good(predictions: list[Prediction]) -> None:
    assert len(to_dataframe(predictions)) == len(predictions)
    assert len(to_dataframe(predictions, library="polars")) == len(predictions)


def test_another_library_is_refused() -> None:
    with pytest.raises(ValueError, match="library must be 'pandas' or 'polars', got 'spark'"):
        to_dataframe([], library="spark")


# ---- COCO


def test_coco_opens_in_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(to_coco(BOTH, SPEC)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert [coco.cats[number]["name"] for number in sorted(coco.cats)] == list(SPEC.categories)
    assert [coco.imgs[number]["file_name"] for number in sorted(coco.imgs)] == ["a.jpg", "b.jpg"]
    (first,) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert first["bbox"] == [100, 50, 200, 400]
    assert coco.cats[first["category_id"]]["name"] == "Dress"
    assert first["keypoints"][:6] == pytest.approx([100, 76.667, 2, 126.667, 130, 1], abs=0.01)
    assert first["keypoints"][6:] == [0, 0, 0] * 6
    assert first["num_keypoints"] == 2
    assert first["colors"] == ["black"]
    assert coco.getAnnIds(catIds=[1]) == [2]


def test_pycocotools_judges_predictions_against_themselves(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path, coco = tmp_path / "truth.json", to_coco([GOOD, BOTH[2]], SPEC)
    path.write_text(json.dumps(coco))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        judged = COCOeval(truth, truth.loadRes(coco["annotations"]), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert judged.stats[0] == pytest.approx(1)


def test_predictions_of_one_image_share_it() -> None:
    pixels = np.zeros((480, 640, 3), np.uint8)
    several: list[Any] = [predict("a.jpg"), predict("a.jpg", x=1), predict(pixels), predict(pixels, x=1), predict(b"x")]
    nameless = [Prediction.from_dict(predict(pixels).to_dict()) for _ in range(2)]
    coco = to_coco([*several, *nameless], SPEC)
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 1, 2, 2, 3, 4, 5]
    assert [image["id"] for image in coco["images"]] == [1, 2, 3, 4, 5]
    assert len({annotation["id"] for annotation in coco["annotations"]}) == 7


def test_a_failed_prediction_is_listed_in_coco() -> None:
    assert to_coco([FAILED], SPEC)["errors"] == [FAILED.to_dict()]


# ---- supervision


def test_detections() -> None:
    detections = to_detections(BOTH, SPEC)
    assert isinstance(detections, sv.Detections)
    assert detections.xyxy.tolist() == [[100, 50, 300, 450], [10, 50, 210, 450]]
    assert detections.class_id.tolist() == [2, 0]
    assert detections.confidence.tolist() == pytest.approx([0.6, 0.7])
    assert detections["class_name"].tolist() == ["Dress", "Tee"]
    assert detections["index"].tolist() == [0, 2]
    assert np.isnan(detections["is_garment"][0])
    assert detections["is_garment"][1] == 0.25
    assert detections["colors"] == [["black"], None]
    only = detections[detections.class_id == 0]
    assert only["attributes"] == [["floral", "denim"]]
    drawn = sv.BoxAnnotator().annotate(np.zeros((480, 640, 3), np.uint8), detections)
    assert drawn.any()


def test_keypoints() -> None:
    keypoints = to_keypoints(BOTH, SPEC)
    assert isinstance(keypoints, sv.KeyPoints)
    assert keypoints.xy.shape == (2, 8, 2)
    assert keypoints.xy[0, 0].tolist() == pytest.approx([100, 76.667], abs=0.01)
    assert (keypoints.xy[:, 2:] == 0).all()  # truncated
    assert keypoints["visibility"][0].tolist() == ["visible", "occluded", *["truncated"] * 6]
    drawn = sv.VertexAnnotator(radius=5).annotate(np.zeros((480, 640, 3), np.uint8), keypoints)
    assert drawn[77, 100].any()
    assert not drawn[0, 0].any()


def test_classifications() -> None:
    classifications = to_classifications(GOOD, SPEC)
    assert isinstance(classifications, sv.Classifications)
    assert classifications.class_id.tolist() == [2, 1, 0]
    classes, scores = classifications.get_top_k(1)
    assert (classes.tolist(), scores.tolist()) == ([2], pytest.approx([0.6]))
    with pytest.raises(ImageError, match=r"bad\.jpg is empty"):
        to_classifications(FAILED, SPEC)


@pytest.mark.parametrize("predictions", [[], [FAILED]])
def test_an_image_without_a_good_prediction(predictions: list[Prediction]) -> None:
    assert len(to_detections(predictions, SPEC)) == 0
    assert len(to_keypoints(predictions, SPEC)) == 0
