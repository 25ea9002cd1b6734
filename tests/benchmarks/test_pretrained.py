"""The parts of training, judging and calibrating the built-in model, on rendered garments and tiny networks."""

import dataclasses
from pathlib import Path

import cv2
import garment_score
import judge_pretrained
import numpy as np
import pretrained
import pytest
import torch
import training_sets

from fashion_infer import Predictor
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.training.checkpoint import save_checkpoint
from fashion_infer.training.model import Architecture, FashionNet
from fashion_infer.training.trainer import network_run

SIZE = 64


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> FashionData:
    root = tmp_path_factory.mktemp("pretrained") / "set"
    write_dataset(root, images=40, seed=3, size=96, jobs=1, progress=False)
    return read_category(root / "category_attribute")


@pytest.fixture(scope="module")
def network(rendered: FashionData) -> FashionNet:
    torch.manual_seed(0)
    sizes = {"num_categories": len(rendered.category_names), "num_attributes": len(rendered.attribute_names)}
    return FashionNet(Architecture("test_efficientnet", SIZE, width=0.1, embedding_dim=16, **sizes)).eval()


@pytest.fixture(scope="module")
def spec(rendered: FashionData) -> ModelSpec:
    return ModelSpec(
        arch="test_efficientnet",
        image_size=SIZE,
        categories=rendered.category_names,
        attributes=rendered.attribute_names,
        attribute_groups=rendered.attribute_groups,
        embedding_dim=16,
        trained=True,
        weights_sha256="",
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Img/img/<split>/<class>/ with two pictures of each class."""
    images, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name in judge_pretrained.CLASSES:
            (images / "img" / split / name).mkdir(parents=True)
            for i in range(2):
                cv2.imwrite(
                    str(images / "img" / split / name / f"{i}.jpg"), rng.integers(0, 256, (40, 30, 3), np.uint8)
                )
    return images


# -------------------------------------------------------------------------------------------------- labels


def test_shoes_and_hats_are_whole_photos_without_landmarks(folders: Path) -> None:
    others = training_sets.not_garments(folders)
    assert len(others) == 8, "two of each class of train and of validation; the test folder is not touched"
    assert others.splits.tolist() == ["train"] * 4 + ["val"] * 4
    assert (others.boxes == [0, 0, 30, 40]).all()
    assert (others.visibility == -1).all()


def test_one_list_of_labels(rendered: FashionData, folders: Path) -> None:
    same, others = training_sets.with_same_labels(rendered, training_sets.not_garments(folders))
    assert same.category_names == others.category_names
    assert same.category_names[-2:] == ("Shoes", "Hat")
    assert {same.category_names[i] for i in same.categories} == {
        rendered.category_names[i] for i in rendered.categories
    }
    assert "long_sleeve" in same.attribute_names
    assert "long-sleeve" not in same.attribute_names
    before = rendered.attributes[:, rendered.attribute_names.index("long-sleeve")]
    assert (same.attributes[:, same.attribute_names.index("long_sleeve")] == before).all()
    assert (others.attributes == 0).all()
    assert len(same.append(others)) == 48


def test_rendered_pictures_know_their_item(rendered: FashionData) -> None:
    items = pretrained.rendered_items(rendered)
    assert sorted(set(items.tolist())) == list(range(10))
    assert (np.bincount(items) == 4).all()


def test_only_what_was_taught_is_offered(rendered: FashionData, network: FashionNet, spec: ModelSpec) -> None:
    smaller, cut = pretrained.only_taught(network, spec, rendered)
    assert set(cut.categories) == {rendered.category_names[i] for i in rendered.categories}
    shown = (rendered.attributes > 0).any(0)
    assert cut.attributes == tuple(name for name, seen in zip(spec.attributes, shown, strict=True) if seen)
    images = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = network(images), smaller(images)
    kept = [spec.categories.index(name) for name in cut.categories]
    torch.testing.assert_close(after["category"], before["category"][:, kept])
    torch.testing.assert_close(after["embedding"], before["embedding"])


def test_the_temperature_undoes_a_scale(rendered: FashionData, network: FashionNet, spec: ModelSpec) -> None:
    """Logits that say what they know, made twice too sure of themselves."""
    fitted = pretrained.fit_temperature(network, spec, rendered)
    surer = FashionNet(network.arch).eval()
    surer.load_state_dict(network.state_dict())
    with torch.no_grad():
        surer.category.weight.mul_(2)
        surer.category.bias.mul_(2)
    assert pretrained.fit_temperature(surer, spec, rendered) == pytest.approx(min(2 * fitted, 3.0), abs=0.05)


# -------------------------------------------------------------------------------------------------- is_garment


def test_the_garment_score_keeps_nearly_all_garments(
    rendered: FashionData, network: FashionNet, spec: ModelSpec, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garment_score, "SCENES", 8)
    monkeypatch.setattr(garment_score, "PIECES", 1)
    monkeypatch.setattr(garment_score, "PICTURES", ("camera", "coffee", "horse"))
    run = network_run(network, spec)
    garments, others = (
        garment_score.outputs_of(run, spec, data.split("train"), whole=True)["embedding"]
        for data in (rendered, training_sets.not_garments(folders))
    )
    validation = rendered.split("val")
    fitted = garment_score.fit_garment_score(run, spec, garments=garments, others=others, validation=validation)
    assert fitted.garment_weights is not None
    for whole in (True, False):
        held_out = garment_score.outputs_of(run, spec, validation, whole=whole)["embedding"]
        logits = held_out @ np.array(fitted.garment_weights) + fitted.garment_bias
        assert (logits >= -1e-3).mean() >= 0.8
    noise = garment_score.run_in_batches(run, garment_score.other_pictures(SIZE, np.random.default_rng(1)))["embedding"]
    assert (noise @ np.array(fitted.garment_weights) + fitted.garment_bias).mean() < logits.mean()


# -------------------------------------------------------------------------------------------------- judging


def test_figures_by_hand() -> None:
    interval = judge_pretrained.share(np.array([True] * 8 + [False] * 2))
    assert interval["value"] == 0.8
    assert interval["low"] == pytest.approx(0.490, abs=1e-3), "Wilson's interval, as in his paper's formula"
    assert interval["high"] == pytest.approx(0.943, abs=1e-3)
    scored = np.array([[0.95, 1.0], [0.95, 0.0], [0.25, 0.0], [0.25, 1.0]])
    assert judge_pretrained.calibration_error(scored) == pytest.approx((0.45 + 0.25) / 2)
    distances = np.array([[0.1, np.nan], [0.3, 0.4]])
    assert judge_pretrained.mean_of_landmarks(distances) == pytest.approx((0.2 + 0.4) / 2)
    drawn = judge_pretrained.interval(np.arange(100.0), np.mean)
    assert drawn["low"] < drawn["value"] == 49.5 < drawn["high"]


def test_a_model_is_judged_on_labels_and_classes(
    rendered: FashionData, network: FashionNet, spec: ModelSpec, folders: Path, tmp_path: Path
) -> None:
    garment = dataclasses.replace(spec, garment_weights=(0.0,) * 16, garment_bias=1.0)
    save_checkpoint(tmp_path / "net.safetensors", network, garment)
    export_onnx(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    with Predictor(tmp_path / "net.onnx") as predictor:
        measures = judge_pretrained.labelled(predictor, rendered.split("test"))
        ten = judge_pretrained.ten_classes(predictor, folders / "img")
        rates = judge_pretrained.garment_rates(predictor, folders / "img")
    assert measures["photos"] == (rendered.splits == "test").sum()
    assert set(measures["groups"]) == set(rendered.attribute_groups)
    assert measures["category"]["top1"]["value"] <= measures["category"]["top5"]["value"]
    assert 0 < measures["landmark_error"]["value"] < 1
    assert measures["is_garment"]["value"] == 1.0
    assert measures["attribute_recall"]["top3"] <= measures["attribute_recall"]["top5"]
    measured = {"lying": {"val": measures, "test": measures}, "ten_classes": ten}
    text = judge_pretrained.table(measured)
    assert "worn" not in text
    assert "| category top-1 |" in text and "92.0% |" in text
    both = judge_pretrained.table(measured | {"worn": measured["lying"]})
    assert all(line.count("|") == 8 for line in both.split("\n\n")[0].splitlines())
    assert ten["C"] in judge_pretrained.STRENGTHS
    assert ten["train"]["value"] >= ten["test"]["value"]
    assert rates["test shoes"]["value"] == 1.0
