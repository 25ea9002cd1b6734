import copy
import dataclasses
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashion_infer.colors import Color
from fashion_infer.errors import FashionInferError, ImageError, ModelError, UsageError
from fashion_infer.images import MAX_PIXELS, ImageSource, Picture
from fashion_infer.model_spec import LANDMARK_NAMES, ModelSpec
from fashion_infer.prediction import Label, Landmark, Prediction, from_outputs
from fashion_infer.preprocess import Crop

SPEC = ModelSpec(
    arch="vgg16",
    image_size=32,
    categories=("Tee", "Skirt", "Dress", "Coat", "Jeans", "Robe"),
    attributes=("floral", "denim", "maxi", "plain"),
    attribute_groups=("texture", "fabric", "shape", "texture"),
    embedding_dim=4,
    trained=True,
    weights_sha256="ab" * 32,
)
CROP = Crop(np.zeros((32, 32, 3), np.uint8), (100.0, 50.0), (200.0, 400.0))
TIMING = {"decode": 1.23456, "preprocess": 0.5, "queue": 0.0, "compute": 10.0, "post": 0.0004}


def row(**changed: Any) -> dict[str, np.ndarray]:
    values: dict[str, Any] = {
        "category": [0.1, 0.3, 0.05, 0.3, 0.2, 0.05],
        "attributes": [0.6, 0.5, 0.9, 0.6],
        "landmarks": [[0, 0], [1, 1], [0.5, 0.25], *[[0.1, 0.2]] * 5],
        "visibility": [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2], *[[1, 0, 0]] * 4],
        "embedding": [0.5, -0.5, 0.5, -0.5],
    }
    return {name: np.asarray(value, np.float32) for name, value in (values | changed).items()}


def predict(source: ImageSource = "a.jpg", spec: ModelSpec = SPEC, **changed: Any) -> Prediction:
    return from_outputs(row(**changed), CROP, spec, source=source, width=640, height=480, timing=dict(TIMING))


def failed(source: ImageSource = "bad.jpg") -> Prediction:
    return Prediction.failed(source, ImageError("bad.jpg is empty"))


# ---- from_outputs


def test_categories_come_best_first_and_ties_keep_the_models_order() -> None:
    prediction = predict()
    assert [label.name for label in prediction.categories] == ["Skirt", "Coat", "Jeans", "Tee", "Dress", "Robe"]
    assert prediction.category == prediction.categories[0] == Label("Skirt", pytest.approx(0.3), "")
    assert {type(label.score) for label in prediction.categories} == {float}


def test_attributes_are_those_above_the_threshold_best_first() -> None:
    prediction = predict()
    assert [(a.name, a.group) for a in prediction.attributes] == [
        ("maxi", "shape"),
        ("floral", "texture"),
        ("plain", "texture"),  # ties with floral; denim has exactly 0.5, which is not above the threshold
    ]
    assert prediction.attribute_scores.tolist() == row()["attributes"].tolist()


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 4), (0.55, 3), (0.6, 1), (0.9, 0), (1.0, 0)])
def test_the_models_threshold_is_used(threshold: float, count: int) -> None:
    assert len(predict(spec=dataclasses.replace(SPEC, threshold=threshold)).attributes) == count


def test_landmarks_are_pixels_of_the_image() -> None:
    landmarks = predict().landmarks
    assert tuple(point.name for point in landmarks) == LANDMARK_NAMES
    assert [(point.x, point.y) for point in landmarks[:3]] == [(100, 50), (300, 450), (200, 150)]
    assert {type(value) for point in landmarks for value in (point.x, point.y, point.score)} == {float}


def test_a_landmark_has_its_likeliest_visibility_and_the_score_of_it() -> None:
    landmarks = predict().landmarks
    assert [point.visibility for point in landmarks[:4]] == ["visible", "occluded", "truncated", "visible"]
    assert [point.score for point in landmarks[:4]] == pytest.approx([0.7, 0.8, 0.6, 0.4])
    assert isinstance(landmarks[0], Landmark)


def test_the_other_fields() -> None:
    prediction = predict()
    assert prediction.box == (100, 50, 300, 450)
    assert (prediction.width, prediction.height, prediction.image) == (640, 480, "a.jpg")
    assert prediction.is_garment is None
    assert prediction.error is None
    assert repr(prediction).startswith("Prediction(image='a.jpg', category=Label(name='Skirt', score=0.3")
    assert repr(prediction).endswith("box=(100.0, 50.0, 300.0, 450.0))")


@pytest.mark.parametrize(
    ("weights", "bias", "score"),
    [
        ((0, 0, 0, 0), 0, 0.5),
        ((2, 0, 0, 0), 0, 1 / (1 + np.exp(-1))),
        ((2, 2, 2, 2), 1, 1 / (1 + np.exp(-1))),
        ((0, 9, 0, 0), 4.5, 0.5),
        ((0, 0, 0, 0), 1e6, 1),
        ((0, 0, 1e6, 0), -1e9, 0),
    ],
)
def test_is_garment_is_a_logistic_function_of_the_embedding(
    weights: tuple[float, ...], bias: float, score: float
) -> None:
    prediction = predict(spec=dataclasses.replace(SPEC, garment_weights=weights, garment_bias=bias))
    assert prediction.is_garment == pytest.approx(score)
    assert type(prediction.is_garment) is float
    assert json.loads(json.dumps(prediction.to_dict()))["is_garment"] == prediction.is_garment


def test_a_prediction_keeps_no_view_of_its_batch() -> None:
    batch = {name: np.stack([values] * 3) for name, values in row().items()}
    pixels = CROP.pixels.copy()
    prediction = from_outputs(
        {name: values[1] for name, values in batch.items()},
        dataclasses.replace(CROP, pixels=pixels),
        SPEC,
        source="a",
        width=1,
        height=1,
        timing={},
    )
    for values in (pixels, *batch.values()):
        values[:] = 255
    assert prediction.embedding.tolist() == [0.5, -0.5, 0.5, -0.5]
    assert prediction.attribute_scores[2] == np.float32(0.9)
    assert prediction.colors == predict().colors == (Color("black", "#000000", 1.0),)


def test_colours_are_computed_once_when_they_are_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("fashion_infer.prediction.dominant_colors", lambda *look: calls.append(look) or ())
    prediction = predict()
    assert calls == []
    assert prediction.colors is prediction.colors == ()
    assert len(calls) == 1


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), dataclasses.replace]
)
def test_a_copy_has_the_colours_and_not_the_pixels(twin: Callable[[Prediction], Prediction]) -> None:
    other = twin(predict())
    assert vars(other)["colors"] == predict().colors
    assert "_look" not in vars(other)


def test_a_prediction_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        predict().width = 3  # type: ignore[misc]


def test_predictions_compare_by_identity() -> None:
    prediction = predict()
    assert prediction == prediction
    assert prediction != predict()
    assert len({prediction, predict()}) == 2


# ---- to_dict


def test_to_dict_has_the_documented_fields() -> None:
    fields = predict().to_dict()
    assert list(fields) == [
        "image",
        "width",
        "height",
        "box",
        "is_garment",
        "categories",
        "attributes",
        "landmarks",
        "colors",
        "timing_ms",
    ]
    assert (fields["image"], fields["width"], fields["height"]) == ("a.jpg", 640, 480)
    assert fields["box"] == [100, 50, 300, 450]
    assert fields["is_garment"] is None
    assert [label["name"] for label in fields["categories"]] == ["Skirt", "Coat", "Jeans", "Tee", "Dress"]
    assert fields["categories"][0] == {"name": "Skirt", "score": pytest.approx(0.3)}
    assert fields["attributes"][0] == {"name": "maxi", "group": "shape", "score": pytest.approx(0.9)}
    assert len(fields["landmarks"]) == 8
    assert fields["landmarks"][1] == {
        "name": "right_collar",
        "x": 300,
        "y": 450,
        "visibility": "occluded",
        "score": pytest.approx(0.8),
    }
    assert fields["colors"] == [{"name": "black", "hex": "#000000", "share": 1.0}]
    assert fields["timing_ms"] == {"decode": 1.235, "preprocess": 0.5, "queue": 0.0, "compute": 10.0, "post": 0.0}


def test_to_dict_is_json_and_has_the_embedding_only_when_asked() -> None:
    prediction = predict()
    assert "embedding" not in prediction.to_dict()
    fields = prediction.to_dict(embedding=True)
    assert fields.pop("embedding") == [0.5, -0.5, 0.5, -0.5]
    assert json.loads(json.dumps(fields, allow_nan=False)) == prediction.to_dict()


def test_few_categories() -> None:
    spec = dataclasses.replace(SPEC, categories=("Tee", "Skirt"))
    assert len(predict(spec=spec, category=[0.4, 0.6]).to_dict()["categories"]) == 2


@pytest.mark.parametrize(
    ("source", "image"),
    [
        ("a.jpg", "a.jpg"),
        (Path("photos/a.jpg"), "photos/a.jpg"),
        (b"encoded", None),
        (io.BytesIO(b"encoded"), None),
        (Image.new("RGB", (2, 2)), None),
        (np.zeros((2, 2, 3), np.uint8), None),
    ],
)
def test_image_is_the_path_or_none(source: ImageSource, image: str | None) -> None:
    assert predict(source).image == predict(source).to_dict()["image"] == image
    assert failed(source).image == failed(source).to_dict()["image"] == image
    assert repr(predict(source)).startswith(f"Prediction(image={image!r}, ")


# ---- from_dict


def test_from_dict_is_the_inverse_of_to_dict() -> None:
    prediction = predict()
    for embedding in (False, True):
        fields = json.loads(json.dumps(prediction.to_dict(embedding=embedding)))
        twin = Prediction.from_dict(fields)
        assert twin.to_dict(embedding=embedding) == fields
        assert (twin.image, twin.category, twin.landmarks) == ("a.jpg", prediction.category, prediction.landmarks)
        assert twin.attributes == prediction.attributes
        assert twin.colors == prediction.colors
        assert twin.box == prediction.box
        assert len(twin.categories) == 5
        assert len(twin.embedding) == (4 if embedding else 0)
        assert twin.embedding.dtype == twin.attribute_scores.dtype == np.float32
        assert len(twin.attribute_scores) == 0


def test_from_dict_without_a_path_and_with_unknown_fields() -> None:
    fields = predict(b"encoded").to_dict() | {"season": ["summer"]}
    twin = Prediction.from_dict(fields)
    assert twin.image is None
    with pytest.raises(ImageError, match="pass the image to plot"):
        twin.plot()


@pytest.mark.parametrize("missing", [True, False])
def test_from_dict_without_colours(missing: bool) -> None:
    fields = predict().to_dict() | {"colors": None}
    if missing:  # as an earlier release wrote it
        del fields["colors"]
    twin = Prediction.from_dict(fields)
    assert twin.colors is None
    assert twin.to_dict()["colors"] is None


@pytest.mark.parametrize(("error", "kind"), [(ImageError("no"), ImageError), (ModelError("no"), ModelError)])
def test_from_dict_of_a_failed_prediction(error: FashionInferError, kind: type[FashionInferError]) -> None:
    twin = Prediction.from_dict(Prediction.failed("bad.jpg", error).to_dict())
    assert twin.image == "bad.jpg"
    assert type(twin.error) is kind
    with pytest.raises(kind, match=r"^no$"):
        _ = twin.landmarks


@pytest.mark.parametrize("name", ["LaterError", "missing_extra", "ClassVar"])
def test_from_dict_of_an_error_that_this_release_does_not_have(name: str) -> None:
    twin = Prediction.from_dict({"image": None, "error": {"type": name, "message": "no"}})
    assert type(twin.error) is FashionInferError


@pytest.mark.parametrize(
    "change",
    [
        {"box": [1, 2, 3]},
        {"box": None},
        {"landmarks": [{"name": "a"}]},
        {"categories": 3},
        {"colors": ["red"]},
        {"error": "no"},
    ],
)
def test_from_dict_refuses_other_dicts(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"not what Prediction\.to_dict gives"):
        Prediction.from_dict(predict().to_dict() | change)
    with pytest.raises(UsageError, match="width"):
        Prediction.from_dict({name: value for name, value in predict().to_dict().items() if name != "width"})


# ---- failed predictions

OTHER_FIELDS = sorted({field.name for field in dataclasses.fields(Prediction)} - {"source", "error", "picture"})


@pytest.mark.parametrize("name", [*OTHER_FIELDS, "category"])
def test_a_field_of_a_failed_prediction_raises_its_error(name: str) -> None:
    prediction = failed()
    with pytest.raises(ImageError, match=r"^bad\.jpg is empty$") as caught:
        getattr(prediction, name)
    assert caught.value.__cause__ is prediction.error
    assert not hasattr(prediction, name)
    assert getattr(prediction, name, "default") == "default"
    assert type(pickle.loads(pickle.dumps(caught.value))) is ImageError


def test_the_fields_that_a_failed_prediction_has() -> None:
    prediction = failed()
    assert isinstance(prediction, Prediction)
    assert prediction.source == prediction.image == "bad.jpg"
    assert prediction.to_dict() == {
        "image": "bad.jpg",
        "error": {"type": "ImageError", "message": "bad.jpg is empty"},
    }
    assert json.loads(json.dumps(prediction.to_dict(embedding=True))) == prediction.to_dict()
    assert repr(prediction) == "Prediction(image='bad.jpg', error=ImageError('bad.jpg is empty'))"
    with pytest.raises(ImageError, match=r"^bad\.jpg is empty$"):
        prediction.plot()


def test_to_dict_names_the_type_of_the_error() -> None:
    prediction = Prediction.failed("a.jpg", ModelError("no"))
    assert prediction.to_dict()["error"]["type"] == "ModelError"
    with pytest.raises(ModelError, match=r"^no$"):
        _ = prediction.width


@pytest.mark.parametrize("make", [predict, failed])
@pytest.mark.parametrize("name", ["colour", "_private", "__array__", "__setstate__", "to_json"])
def test_no_such_attribute_is_an_attribute_error(make: Callable[[], Prediction], name: str) -> None:
    prediction = make()
    assert not hasattr(prediction, name)
    with pytest.raises(AttributeError, match=f"Prediction has no '{name}'"):
        getattr(prediction, name)


def test_an_empty_prediction_does_not_recurse() -> None:
    with pytest.raises(AttributeError, match="no 'width'"):
        _ = object.__new__(Prediction).width


# ---- pickling and copying

TWINS: dict[str, Callable[[Prediction], Prediction]] = {
    **{f"pickle {p}": lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
@pytest.mark.parametrize("source", ["a.jpg", Path("a.jpg"), b"encoded", io.BytesIO(b"encoded")])
def test_pickling_and_copying_keep_all_but_the_pixels(
    twin: Callable[[Prediction], Prediction], source: ImageSource
) -> None:
    prediction = predict(source)
    other = twin(prediction)
    assert type(other) is Prediction
    assert other.to_dict(embedding=True) == prediction.to_dict(embedding=True)
    assert repr(other) == repr(prediction)
    assert other.source == ("a.jpg" if isinstance(source, str | Path) else None)
    assert other.categories[0].score == prediction.category.score
    assert other.attribute_scores.dtype == np.float32
    assert prediction.source is source


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
@pytest.mark.parametrize("source", ["bad.jpg", Path("bad.jpg"), b"encoded"])
def test_a_failed_prediction_survives_pickling_and_copying(
    twin: Callable[[Prediction], Prediction], source: ImageSource
) -> None:
    other = twin(failed(source))
    assert other.to_dict() == failed(source).to_dict()
    assert repr(other) == repr(failed(source))
    with pytest.raises(ImageError, match=r"^bad\.jpg is empty$"):
        _ = other.landmarks


def test_replace() -> None:
    prediction = dataclasses.replace(predict(), is_garment=0.5)
    assert prediction.to_dict()["is_garment"] == 0.5


# ---- plot


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (640, 480), (200, 30, 60)).save(path)
    return path


def test_plot_reads_its_source_again(photo: Path) -> None:
    plain = np.array(Image.open(photo))
    for source in (photo, str(photo), photo.read_bytes(), Image.open(photo), plain):
        drawn = predict(source).plot()
        assert drawn.dtype == np.uint8
        assert drawn.shape == (480 + 50, 640, 3)
        assert drawn[450:480, 400:].tolist() == plain[450:480, 400:].tolist()
        assert drawn[50, 200].tolist() == [255, 255, 255]  # the box
        assert drawn[50, 100].tolist() == [46, 204, 113]  # left_collar, visible
        assert (drawn[480:] != 32).any()  # the caption


def test_plot_on_another_image(photo: Path) -> None:
    expected = predict(photo).plot()
    prediction = predict("gone.jpg")
    np.testing.assert_array_equal(prediction.plot(photo), expected)
    np.testing.assert_array_equal(prediction.plot(np.array(Image.open(photo))), expected)


def test_plot_when_the_image_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.jpg cannot be read: No such file"):
        predict(tmp_path / "gone.jpg").plot()


@pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)
def test_plot_after_pickling(twin: Callable[[Prediction], Prediction], photo: Path) -> None:
    np.testing.assert_array_equal(twin(predict(photo)).plot(), predict(photo).plot())
    homeless = twin(predict(photo.read_bytes()))
    with pytest.raises(ImageError, match=r"^this prediction was .* without its image: pass the image to plot$"):
        homeless.plot()
    np.testing.assert_array_equal(homeless.plot(photo), predict(photo).plot())


def test_plot_draws_on_the_kept_picture(photo: Path) -> None:
    half = Image.open(photo).resize((320, 240))
    prediction = dataclasses.replace(
        predict(tmp := photo.with_name("gone.jpg")), picture=Picture(np.array(half), 640, 480)
    )
    assert not tmp.exists()
    drawn = prediction.plot()
    assert drawn.shape == (480 + 50, 640, 3)  # a small picture is enlarged
    assert drawn[50, 200].tolist() == [255, 255, 255]  # the box in the coordinates of the whole picture
    assert pickle.loads(pickle.dumps(prediction)).picture is None


def test_plot_reads_an_accepted_image_again_whatever_the_limits(photo: Path) -> None:
    whole = predict(photo)
    above = dataclasses.replace(whole, width=MAX_PIXELS, height=2)
    Image.new("1", (9000, 8000)).save(photo)
    with pytest.raises(ImageError, match="above the limit"):
        whole.plot()
    assert above.plot().shape[1] == 9000
