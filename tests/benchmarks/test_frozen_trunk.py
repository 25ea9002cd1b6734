"""The ablation on a frozen trunk, on rendered garments and tiny networks."""

import csv
import dataclasses
import json
from pathlib import Path

import frozen_heads
import frozen_trunk
import numpy as np
import photo_embedding
import pytest
import torch
from frozen_heads import Cached, Fold

from fashion_infer.data.deepfashion import read_category
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.training.checkpoint import save_checkpoint
from fashion_infer.training.embedding import EmbeddingConfig
from fashion_infer.training.model import Architecture, FashionNet, Maps

SIZE, PHOTOS = 64, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frozen") / "set"
    write_dataset(root, images=PHOTOS, seed=3, size=96, jobs=1, progress=False)
    return root / "category_attribute"


@pytest.fixture(scope="module")
def network(folder: Path) -> FashionNet:
    torch.manual_seed(0)
    data = read_category(folder)
    sizes = {"num_categories": len(data.category_names), "num_attributes": len(data.attribute_names)}
    return FashionNet(Architecture("tf_efficientnet_lite0", SIZE, width=0.1, embedding_dim=16, **sizes)).eval()


@pytest.fixture(scope="module")
def spec(folder: Path) -> ModelSpec:
    data = read_category(folder)
    return ModelSpec(
        arch="tf_efficientnet_lite0",
        image_size=SIZE,
        categories=data.category_names,
        attributes=data.attribute_names,
        attribute_groups=data.attribute_groups,
        embedding_dim=16,
        trained=True,
        weights_sha256="",
    )


@pytest.fixture(scope="module")
def cached(folder: Path, network: FashionNet) -> Cached:
    return frozen_heads.cache(network, read_category(folder), np.arange(PHOTOS) // 2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few short steps; rendered garments have other attribute groups than photos."""
    monkeypatch.setattr(photo_embedding, "LABELS", (("category",), ("category", "texture")))
    monkeypatch.setattr(frozen_heads, "EMBEDDING", EmbeddingConfig(steps=4, pairs=8))
    for name, value in {"STEPS": 3, "BATCH": 8}.items():
        monkeypatch.setattr(frozen_heads, name, value)


def test_each_view_has_its_own_features_and_landmarks(cached: Cached) -> None:
    maps, deep = cached.network.arch.image_size // 8, cached.network.arch.image_size // 32
    assert cached.maps.shape == (3 * PHOTOS, 40, maps, maps)
    assert cached.deep.shape == (3 * PHOTOS, 320, deep, deep)
    views = cached.maps.unflatten(0, (3, PHOTOS))
    assert not any(torch.equal(views[a, 0], views[b, 0]) for a, b in ((0, 1), (0, 2), (1, 2)))
    data, visible = cached.data, cached.visibility[:PHOTOS].numpy() == 0
    np.testing.assert_array_equal(visible, data.visibility == 0)
    corner, size = data.boxes[:, None, :2], data.boxes[:, None, 2:] - data.boxes[:, None, :2]
    expected = (data.landmarks - corner) / size
    np.testing.assert_allclose(cached.landmarks[:PHOTOS].numpy()[visible], expected[visible], atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "gate"), [("landmarks", True), ("landmarks", False), ("grid", True), ("none", True)]
)
def test_cached_heads_compute_what_the_network_does(cached: Cached, pooling: str, gate: bool) -> None:
    torch.manual_seed(1)
    heads = FashionNet(dataclasses.replace(cached.network.arch, pooling=pooling, gate=gate)).eval()
    torch.nn.init.normal_(heads.pose.visibility.weight)  # so that some gates close
    points, gates = frozen_heads.points_of(heads.pose, cached)
    assert 0 < gates.mean() < 1
    if pooling == "grid":
        points = heads.grid.expand_as(points)
    if pooling == "grid" or not gate:
        gates = torch.ones_like(gates)
    pooled = None if pooling == "none" else frozen_heads.pool(cached, points, gates)
    rows = torch.tensor([0, PHOTOS + 3, 2 * PHOTOS + 5])
    deep = cached.deep[rows].float()
    with torch.inference_mode():
        expected = heads.heads(Maps((cached.maps[rows].float(), deep), deep, deep))["category"]
        torch.testing.assert_close(
            heads.category(frozen_heads.fuse(heads, cached, rows, pooled)), expected, atol=1e-3, rtol=1e-3
        )


def test_heads_and_landmarks_learn(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = np.arange(PHOTOS)
    same = Fold(everything, everything, seed=0)

    def measured(steps: int) -> dict[str, float]:
        monkeypatch.setattr(frozen_heads, "STEPS", steps)
        points = frozen_heads.points_of(frozen_heads.fit_pose(cached, same), cached)
        pooled = frozen_heads.pool(cached, *points)
        return frozen_heads.measure_pose(*points, cached, same) | frozen_heads.measure_heads(cached, same, pooled)

    short, long = measured(1), measured(60)
    assert long["landmark_error_of_box"] < short["landmark_error_of_box"]
    assert long["gates_right"] > short["gates_right"]
    assert long["category_top1"] > short["category_top1"]


def test_labelled_arms_pool_at_the_labels(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = []
    real_pool = frozen_heads.pool

    def pool(cached: Cached, points: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        pooled.append((points, gates))
        return real_pool(cached, points, gates)

    monkeypatch.setattr(frozen_trunk, "pool", pool)
    fold = Fold(np.arange(30), np.arange(30, PHOTOS), seed=0)
    measured = frozen_trunk.measure_fold(cached, fold)
    assert list(measured) == ["landmarks", "no pooling", *frozen_trunk.ARMS]
    assert set(measured["no pooling"]) == set(frozen_trunk.COLUMNS)
    by_arm = dict(zip(frozen_trunk.ARMS, pooled, strict=True))
    grid, labelled = by_arm["fixed grid, labelled gate"], by_arm["labelled landmarks, gate"]
    predicted, without = by_arm["predicted landmarks, no gate"], by_arm["labelled landmarks, no gate"]
    visible = cached.visibility == 0
    assert torch.equal(labelled[1] > 0, visible) and torch.equal(grid[1], labelled[1])
    assert torch.equal(labelled[0][visible], cached.landmarks[visible])
    absent = cached.visibility == -1
    assert absent.any() and torch.equal(labelled[0][absent], predicted[0][absent])
    assert torch.equal(without[0], labelled[0]) and bool((without[1] == 1).all())


def test_no_group_is_on_both_sides_and_every_photo_is_held_out_once() -> None:
    groups = np.repeat(np.arange(12), 3)
    folds = list(frozen_trunk.folds_of(groups))
    assert [fold.seed for fold in folds] == [0, 1, 2]
    assert all(not set(groups[fold.fitted]) & set(groups[fold.held_out]) for fold in folds)
    assert all(len(fold.fitted) + len(fold.held_out) == 36 for fold in folds)
    assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(36))


def test_street_photos_are_grouped_by_series(cached: Cached, tmp_path: Path) -> None:
    names = ("img/worn/0019_vest.jpg", "img/worn/0020_dress.jpg", "img/worn/0039_coat.jpg")
    street = dataclasses.replace(cached.data.select([0, 1, 2]), images=names)
    assert frozen_trunk.groups_of(frozen_trunk.Kind.WORN, tmp_path, street).tolist() == [0, 1, 1]


def test_gains_are_paired() -> None:
    reference = [{"top1": value} for value in (0.50, 0.60, 0.70)]
    arm = [{"top1": value} for value in (0.51, 0.62, 0.73)]
    half = 4.303 * 1 / 3**0.5
    assert frozen_trunk.gain(arm, reference, "top1") == f"+2.0 ({2 - half:+.1f} to {2 + half:+.1f})"
    assert frozen_trunk.spread(arm, "top1", 100, 1) == "62.0 ± 11.0"


def test_the_command_never_opens_a_test_photo(
    folder: Path, network: FashionNet, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_category(folder)
    for name in data.split("test").images:
        (data.image_root / name).write_bytes(b"")  # reading it would fail
    with (folder / "photos.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "sender_id"))
        rows.writerows((f"Img/{name}", number // 2) for number, name in enumerate(data.images))
    trunk = tmp_path / "model.safetensors"
    save_checkpoint(trunk, network, spec)
    few = {"predicted landmarks, gate": ("predicted", "predicted")}
    for name, value in {"SIZE": SIZE, "WIDTH": 0.1, "PARTS": 2, "ARMS": few}.items():
        monkeypatch.setattr(frozen_trunk, name, value)
    frozen_trunk.main(folder, frozen_trunk.Kind.LYING, trunk, tmp_path / "results")
    written = json.loads((tmp_path / "results" / "lying_ablation.json").read_text())
    assert written["photos"] == len(data.split("train", "val"))
    assert set(written["trunks"]) == {"ImageNet", "lying garments"}
    results = written["trunks"]["ImageNet"]
    assert set(results) == {"landmarks", "no pooling", *few, "no pooling, groups on both sides"}
    assert all(len(parts) == 2 for parts in results.values())
    text = (tmp_path / "results" / "lying_ablation.md").read_text()
    assert text.count("| predicted landmarks, gate |") == 4, "a row of values and one of gains for each trunk"
