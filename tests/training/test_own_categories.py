"""From class folders to a model like any other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_infer import Gallery, Predictor
from fashion_infer.errors import DataError, UsageError
from fashion_infer.export.from_onnx import load_model
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.model_spec import ModelSpec
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint
from fashion_infer.training.model import FashionNet
from fashion_infer.training.own_categories import OwnConfig, best_temperature, train_own
from fashion_infer.training.own_report import OwnReport
from tests.training.own import COLORS, paint, picture, small_network

COUNTS = {"Hat": 12, "Shoes": 12, "Tee": 12}


@pytest.fixture(scope="module")
def source() -> tuple[FashionNet, ModelSpec]:
    return small_network()


@pytest.fixture(scope="module")
def teach(source: tuple[FashionNet, ModelSpec]) -> Callable[..., tuple[FashionNet, ModelSpec, OwnReport]]:
    """Teaches the small network, or another one, the classes of a folder."""

    def teach(folder: Path, output: Path, start: object = None, **config: object) -> tuple:
        network, spec = start or source  # type: ignore[misc]
        report = train_own(network, spec, OwnConfig(folder, **config), output)  # type: ignore[arg-type]
        return *load_checkpoint(output), report

    return teach


def outputs(network: FashionNet, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images = np.stack([picture(rng, color)[:32, :32] for color in COLORS.values()])
    with torch.inference_mode():
        return network(torch.from_numpy(images))


def test_the_classes_are_learnt_and_what_is_not_taught_stays(
    teach: Callable[..., tuple], source: tuple[FashionNet, ModelSpec], tmp_path: Path
) -> None:
    paint(tmp_path / "own", COUNTS)
    network, spec, report = teach(tmp_path / "own", tmp_path / "own.safetensors")
    assert spec.categories == ("Hat", "Shoes", "Tee")
    assert report.from_model == ("Tee",)
    assert report.accuracy.share > 0.9
    assert report.accuracy.low < report.accuracy.share <= report.accuracy.high
    assert report.accuracy.photos == 36
    before, after = outputs(source[0]), outputs(network)
    assert after["category"].argmax(1).tolist()[:3] == [0, 1, 2]
    for name in ("attributes", "landmarks", "visibility", "embedding"):
        torch.testing.assert_close(after[name], before[name])
    assert spec.attributes == source[1].attributes
    assert spec.embedding_space == source[1].embedding_space
    assert report.same_embedding


def test_the_result_is_a_file_like_any_other_and_fits_the_gallery_of_the_model_before(
    teach: Callable[..., tuple], tmp_path: Path
) -> None:
    network, spec = small_network()
    with torch.no_grad():  # values that all differ, as after training: the exporter writes equal tensors only once
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand_like(tensor))
    save_checkpoint(tmp_path / "before.safetensors", network, spec)
    export_onnx(tmp_path / "before.safetensors", tmp_path / "before.onnx")
    start = load_model(str(tmp_path / "before.onnx"))
    paint(tmp_path / "own", COUNTS)
    photos = [str(path) for path in sorted((tmp_path / "own").rglob("*.png"))]
    with Predictor(tmp_path / "before.onnx") as predictor, Gallery(tmp_path / "shop.gallery", predictor) as gallery:
        gallery.add(photos[:6])
    teach(tmp_path / "own", tmp_path / "own.safetensors", start)
    export_onnx(tmp_path / "own.safetensors", tmp_path / "own.onnx", tmp_path / "own")
    with Predictor(tmp_path / "own.onnx") as predictor, Gallery(tmp_path / "shop.gallery", predictor) as gallery:
        predictions = predictor.predict(photos)
        hits = gallery.search(photos[2], limit=1)
    right = [
        prediction.category.name == Path(photo).parent.name
        for prediction, photo in zip(predictions, photos, strict=True)
    ]
    assert np.mean(right) > 0.9
    assert all(0 <= prediction.is_garment <= 1 for prediction in predictions)
    assert hits[0].id == photos[2]
    assert hits[0].score > 0.999
    assert load_model(str(tmp_path / "own.onnx"))[0].arch.heads == "all"  # it can be taught further


def test_a_class_that_is_added_leaves_the_others_logits_as_they_are(
    teach: Callable[..., tuple], tmp_path: Path
) -> None:
    paint(tmp_path / "own", COUNTS)
    network, spec, _ = teach(tmp_path / "own", tmp_path / "own.safetensors")
    paint(tmp_path / "own", {"bag": 12})
    wider, wider_spec, report = teach(tmp_path / "own", tmp_path / "more.safetensors", (network, spec), add=True)
    assert wider_spec.categories == ("Hat", "Shoes", "Tee", "bag")
    assert wider_spec.temperature == spec.temperature
    before, after = outputs(network)["category"], outputs(wider)["category"]
    assert torch.equal(wider.category.weight[:3], network.category.weight)
    torch.testing.assert_close(after[:, :3], before)
    assert after.argmax(1).tolist() == [0, 1, 2, 3]
    assert report.accuracy.share > 0.9
    assert report.confusion["bag"]["bag"] >= 10


def test_a_class_beside_the_models_own(
    teach: Callable[..., tuple],
    source: tuple[FashionNet, ModelSpec],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paint(tmp_path / "own", {"Hat": 12, "Tee": 12})
    network, spec, _ = teach(tmp_path / "own", tmp_path / "own.safetensors", add=True)
    assert spec.categories == ("Tee", "Dress", "Hat")
    torch.testing.assert_close(outputs(network)["category"][:, :2], outputs(source[0])["category"])
    assert "no photos of 1 of the model's classes (for example Dress)" in caplog.text


@pytest.mark.parametrize(
    ("counts", "add", "message"),
    [
        ({"Hat": 6}, False, "there is one class only, Hat: .* --add"),
        ({"Hat": 6}, True, "there are photos of Hat only"),
        ({"Tee": 6}, True, "the model has all of these classes already: leave out --add"),
        ({"Hat": 6, "Tee": 4}, False, r"too few: Tee \(4\)"),
    ],
)
def test_too_little_to_learn_from(
    teach: Callable[..., tuple], tmp_path: Path, counts: dict[str, int], add: bool, message: str
) -> None:
    paint(tmp_path / "own", counts)
    with pytest.raises(DataError, match=message):
        teach(tmp_path / "own", tmp_path / "own.safetensors", add=add)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_wrong_label_is_the_most_doubtful_photo_and_on_the_sheet(teach: Callable[..., tuple], tmp_path: Path) -> None:
    paint(tmp_path / "own", COUNTS)
    shutil.move(tmp_path / "own" / "Hat" / "0_4.png", tmp_path / "own" / "Shoes" / "wrong.png")
    *_, report = teach(tmp_path / "own", tmp_path / "own.safetensors")
    worst = report.doubtful[0]
    assert worst.image == str(tmp_path / "own" / "Shoes" / "wrong.png")
    assert (worst.label, worst.guess) == ("Shoes", "Hat")
    assert worst.score < 0.5
    assert len(report.doubtful) == 10
    with Image.open(tmp_path / "own.doubtful.jpg") as sheet:
        assert sheet.format == "JPEG"
    written = json.loads((tmp_path / "own.report.json").read_text())
    assert written["doubtful"][0]["image"] == worst.image
    assert written["accuracy"]["photos"] == 36
    assert written["categories"] == ["Hat", "Shoes", "Tee"]


def test_a_test_folder_is_judged_without_what_was_learnt_from(
    teach: Callable[..., tuple], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path / "own", COUNTS)
    paint(tmp_path / "test", {"Hat": 4, "Tee": 4}, seed=1)
    shutil.copy(tmp_path / "own" / "Hat" / "0_1.png", tmp_path / "test" / "Tee" / "x.png")
    *_, report = teach(tmp_path / "own", tmp_path / "own.safetensors", test=tmp_path / "test")
    assert 0 < report.test.photos <= 8
    assert report.test.share > 0.8
    assert "are in the training folder too" in caplog.text
    with pytest.raises(DataError, match="every photo is among those to learn from"):
        teach(tmp_path / "own", tmp_path / "own.safetensors", test=tmp_path / "own")
    paint(tmp_path / "test", {"bag": 1})
    with pytest.raises(DataError, match="bag is none of the classes that were taught"):
        teach(tmp_path / "own", tmp_path / "own.safetensors", test=tmp_path / "test")


def test_deepfashions_layout_teaches_attributes_too(
    teach: Callable[..., tuple], larger_set: Path, tmp_path: Path
) -> None:
    network, spec, report = teach(larger_set, tmp_path / "own.safetensors")
    assert spec.attributes[:3] == ("floral", "striped", "cotton")
    assert len(spec.attributes) > 10
    assert 0 <= report.attributes <= 1
    assert network.attributes.weight.abs().sum(1).bool().any()
    assert len(spec.categories) == network.category.out_features


@pytest.mark.parametrize("wrong", [{"add": True, "unfreeze": True}])
def test_what_cannot_be_asked_for(wrong: dict[str, bool], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one"):
        OwnConfig(tmp_path, **wrong)
    network, spec = small_network()
    with pytest.raises(UsageError, match=r"such as own\.safetensors, got own\.onnx"):
        train_own(network, spec, OwnConfig(tmp_path), Path("own.onnx"))


def test_the_temperature_fits_logits_that_are_too_sure() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) < rng.random((4000, 1))).sum(1)
    assert best_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    assert best_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.1)


def test_five_photos_a_class_are_enough(teach: Callable[..., tuple], tmp_path: Path) -> None:
    paint(tmp_path / "own", {"Hat": 5, "Shoes": 5})
    *_, report = teach(tmp_path / "own", tmp_path / "own.safetensors")
    assert report.accuracy.photos == 10
    assert report.accuracy.high - report.accuracy.low > 0.2  # ten photos prove little


def test_the_same_photos_give_the_same_file(teach: Callable[..., tuple], tmp_path: Path) -> None:
    paint(tmp_path / "own", COUNTS)
    specs = [teach(tmp_path / "own", tmp_path / f"{name}.safetensors")[1] for name in "ab"]
    assert specs[0] == specs[1]
