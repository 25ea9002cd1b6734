"""Conversion of predictions to the formats of other tools: data frames, CSV rows, COCO and supervision's classes."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_infer.errors import missing_extra
from fashion_infer.model_spec import ModelSpec
from fashion_infer.prediction import Landmark, Prediction

if TYPE_CHECKING:
    import supervision

_COLUMNS = (
    *("image", "width", "height", "x1", "y1", "x2", "y2"),
    *("is_garment", "category", "category_score", "attributes", "colors"),
)
COCO_VISIBILITY = {"visible": 2, "occluded": 1, "truncated": 0}


def columns(landmarks: Sequence[str]) -> list[str]:
    """The names of the columns of `to_row`; `landmarks` are `ModelSpec.landmarks`."""
    landmark_columns = [f"{name}_{field}" for name in landmarks for field in ("x", "y", "visibility")]
    return [*_COLUMNS, *landmark_columns, "error"]


def to_row(prediction: Prediction, landmarks: Sequence[str]) -> dict[str, Any]:
    """One prediction as a flat row; every row has the same columns, in the same order.

    Args:
        prediction: a prediction; a failed one fills `image` and `error` only.
        landmarks: names of the landmarks, `ModelSpec.landmarks`; each has three columns.

    Returns:
        image, width, height, x1, y1, x2, y2 (the box), is_garment, category, category_score, attributes and colors
        (lists of names), NAME_x, NAME_y and NAME_visibility for each landmark, and error. Lengths are in pixels of the
        upright image. A missing value is None.
    """
    row: dict[str, Any] = {**dict.fromkeys(columns(landmarks)), "image": prediction.image}
    if prediction.error is not None:
        return {**row, "error": f"{type(prediction.error).__name__}: {prediction.error}"}
    row.update(width=prediction.width, height=prediction.height, is_garment=prediction.is_garment)
    row.update(zip(("x1", "y1", "x2", "y2"), prediction.box, strict=True))
    row.update(category=prediction.category.name, category_score=prediction.category.score)
    row.update(attributes=[label.name for label in prediction.attributes], colors=_color_names(prediction))
    for point in prediction.landmarks:
        row[f"{point.name}_x"], row[f"{point.name}_y"] = point.x, point.y
        row[f"{point.name}_visibility"] = point.visibility
    return row


def to_dataframe(predictions: Iterable[Prediction], *, library: str | None = None, embedding: bool = False) -> Any:
    """A data frame with one row for each prediction, in order; a failed prediction has `image` and `error` only.

    Args:
        predictions: the results of `Predictor.predict` or `Predictor.stream` for several images.
        library: "pandas" or "polars"; by default pandas, or polars if pandas is not installed.
        embedding: add a column `embedding`, which holds float32 arrays of shape [D].

    Returns:
        A `pandas.DataFrame` or a `polars.DataFrame` with the columns of `to_row`.

    Raises:
        MissingExtraError: the library is not installed, or neither of the two is.
        ValueError: `library` is another name.
    """
    if library not in (None, "pandas", "polars"):
        raise ValueError(f"library must be 'pandas' or 'polars', got {library!r}")
    predictions = list(predictions)
    names = next((p.landmarks for p in predictions if p.error is None), ())
    rows = [to_row(prediction, [point.name for point in names]) for prediction in predictions]
    if embedding:
        for row, prediction in zip(rows, predictions, strict=True):
            row["embedding"] = None if prediction.error is not None else prediction.embedding
    module = _data_frames(library)
    options = {"infer_schema_length": None} if module.__name__ == "polars" else {}
    return module.DataFrame(rows, **options)


def _data_frames(library: str | None) -> Any:
    """Import the named library; without a name the first of the two that is installed."""
    names = ("pandas", "polars") if library is None else (library,)
    failures = []
    for name in names:
        try:
            return import_module(name)
        except ImportError as error:
            failures.append(error)
    extra = "dataframe" if names[0] == "pandas" else "polars"
    raise missing_extra(names[0], extra, failures[0]) from failures[0]


def to_coco(predictions: Iterable[Prediction], spec: ModelSpec) -> dict[str, Any]:
    """A COCO data set of predictions, with boxes, categories and keypoints, ready for JSON and `pycocotools`.

    Predictions with the same path share an image, and so do the predictions of several boxes of one array or file.
    Category and annotation ids begin at 1. A visible keypoint has v = 2 and an occluded one v = 1; a truncated one is
    (0, 0) with v = 0. An annotation also has `score`, the score of its category; `attributes` and `colors`, lists of
    names; and `is_garment`.

    Args:
        predictions: predictions of one model.
        spec: that model's specification, `Predictor.spec`; the order of its categories and landmarks sets their ids.

    Returns:
        COCO's `images`, `annotations` and `categories`, and `errors` with the image and the error of each prediction
        that failed.
    """
    numbers = {name: number for number, name in enumerate(spec.categories, 1)}
    images: dict[Any, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for prediction in predictions:
        if prediction.error is not None:
            errors.append(prediction.to_dict())
            continue
        facts = {"file_name": prediction.image, "width": prediction.width, "height": prediction.height}
        image = images.setdefault(_image_key(prediction), {"id": len(images) + 1, **facts})
        identity = {"id": len(annotations) + 1, "image_id": image["id"]}
        annotations.append({**identity, **_annotation(prediction, numbers)})
    categories = [
        {"id": number, "name": name, "supercategory": "garment", "keypoints": list(spec.landmarks), "skeleton": []}
        for name, number in numbers.items()
    ]
    return {
        "info": {"description": f"predictions of a fashion-infer model, weights {spec.weights_sha256}"},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": categories,
        "errors": errors,
    }


def _image_key(prediction: Prediction) -> object:
    """A key that is equal for predictions of the same image; a prediction without its image has its own key."""
    source = prediction.image or prediction.source
    return source if isinstance(source, str) else id(prediction if source is None else source)


def _annotation(prediction: Prediction, numbers: Mapping[str, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = prediction.box
    located = [point for point in prediction.landmarks if COCO_VISIBILITY[point.visibility]]
    return {
        "category_id": numbers[prediction.category.name],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "keypoints": [number for point in prediction.landmarks for number in _coco_keypoint(point)],
        "num_keypoints": len(located),
        "score": prediction.category.score,
        "attributes": [label.name for label in prediction.attributes],
        "colors": _color_names(prediction),
        "is_garment": prediction.is_garment,
    }


def _color_names(prediction: Prediction) -> list[str] | None:
    return None if prediction.colors is None else [color.name for color in prediction.colors]


def _coco_keypoint(point: Landmark) -> tuple[float, float, int]:
    visibility = COCO_VISIBILITY[point.visibility]
    return (point.x, point.y, visibility) if visibility else (0, 0, 0)


def to_detections(predictions: Iterable[Prediction], spec: ModelSpec) -> "supervision.Detections":
    """The garments of one image as supervision's Detections; failed predictions are left out.

    Args:
        predictions: predictions of one image, such as the result of `Predictor.predict(image, boxes=...)`.
        spec: their model's specification, `Predictor.spec`.

    Returns:
        `xyxy` float32 [N, 4] in pixels; `class_id` [N], the place of the best category in `spec.categories`;
        `confidence` [N], its score; `data` with `class_name` [N], `attributes` and `colors` (N lists of names),
        `is_garment` [N] (NaN where the model does not tell) and `index` [N], each garment's place among the
        predictions.

    Raises:
        MissingExtraError: supervision is not installed.
    """
    sv, kept = _supervision(), _without_failed(predictions)
    garments = [1.0 if p.is_garment is None else p.is_garment for _, p in kept]
    unknown = [p.is_garment is None for _, p in kept]
    detections: supervision.Detections = sv.Detections(
        xyxy=np.array([p.box for _, p in kept], np.float32).reshape(-1, 4),
        class_id=_class_ids(kept, spec),
        confidence=_scores(kept),
        data=_names(kept)
        | {
            "attributes": [[label.name for label in p.attributes] for _, p in kept],
            "colors": [_color_names(p) for _, p in kept],
            "is_garment": np.where(unknown, np.nan, garments).astype(np.float32),
        },
    )
    return detections


def to_keypoints(predictions: Iterable[Prediction], spec: ModelSpec) -> "supervision.KeyPoints":
    """The landmarks of the garments of one image as supervision's KeyPoints; failed predictions are left out.

    Args:
        predictions: predictions of one image, such as the result of `Predictor.predict(image, boxes=...)`.
        spec: their model's specification, `Predictor.spec`.

    Returns:
        `xy` float32 [N, 8, 2] in pixels; `keypoint_confidence` [N, 8], the score of each landmark's visibility; a
        truncated landmark is (0, 0) with score 0, which supervision does not draw. `detection_confidence` and
        `class_id` [N] as `confidence` and `class_id` of `to_detections`; `data` with `class_name` [N], `visibility`
        [N, 8] and `index` [N].

    Raises:
        MissingExtraError: supervision is not installed.
    """
    sv, kept = _supervision(), _without_failed(predictions)
    located = [[point.visibility != "truncated" for point in p.landmarks] for _, p in kept]
    xy = np.array([[(point.x, point.y) for point in p.landmarks] for _, p in kept], np.float32)
    scores = np.array([[point.score for point in p.landmarks] for _, p in kept], np.float32)
    shape = len(kept), len(spec.landmarks)
    mask = np.array(located, bool).reshape(shape)
    visibility = np.array([[point.visibility for point in p.landmarks] for _, p in kept], str).reshape(shape)
    keypoints: supervision.KeyPoints = sv.KeyPoints(
        xy=np.where(mask[..., None], xy.reshape(*shape, 2), 0).astype(np.float32),
        keypoint_confidence=np.where(mask, scores.reshape(shape), 0).astype(np.float32),
        detection_confidence=_scores(kept),
        class_id=_class_ids(kept, spec),
        data=_names(kept) | {"visibility": visibility},
    )
    return keypoints


def to_classifications(prediction: Prediction, spec: ModelSpec) -> "supervision.Classifications":
    """The categories of one garment as supervision's Classifications, best first.

    Args:
        prediction: a prediction without an error.
        spec: its model's specification, `Predictor.spec`.

    Returns:
        `class_id` [C], indices in `spec.categories`, and `confidence` [C], their scores.

    Raises:
        MissingExtraError: supervision is not installed.
        ImageError: the prediction's own error.
    """
    sv = _supervision()
    if prediction.error is not None:
        raise prediction.error
    places = {name: place for place, name in enumerate(spec.categories)}
    classifications: supervision.Classifications = sv.Classifications(
        class_id=np.array([places[label.name] for label in prediction.categories], int),
        confidence=np.array([label.score for label in prediction.categories], np.float32),
    )
    return classifications


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise missing_extra("supervision", "supervision", error) from error
    return supervision


def _without_failed(predictions: Iterable[Prediction]) -> list[tuple[int, Prediction]]:
    """The predictions that have no error, each with its index."""
    return [(place, prediction) for place, prediction in enumerate(predictions) if prediction.error is None]


def _class_ids(kept: Sequence[tuple[int, Prediction]], spec: ModelSpec) -> Any:
    return np.array([spec.categories.index(p.category.name) for _, p in kept], int)


def _scores(kept: Sequence[tuple[int, Prediction]]) -> Any:
    return np.array([p.category.score for _, p in kept], np.float32)


def _names(kept: Sequence[tuple[int, Prediction]]) -> dict[str, Any]:
    """The `data` that Detections and KeyPoints share: the category's name and the index of each garment."""
    return {
        "class_name": np.array([p.category.name for _, p in kept], str),
        "index": np.array([place for place, _ in kept], int),
    }
