"""The runs on worn garments and the embedding after it, on rendered pictures and a tiny network."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import photo_embedding
import pytest
import strong_views
import torch
import training_sets
import worn_garments

from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint
from fashion_infer.training.embedding import EmbeddingConfig
from fashion_infer.training.model import Architecture, FashionNet

SIZE = 64


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> FashionData:
    root = tmp_path_factory.mktemp("worn") / "set"
    write_dataset(root, images=60, seed=3, size=96, jobs=1, progress=False)
    return read_category(root / "category_attribute")


@pytest.fixture(scope="module")
def sets(rendered: FashionData) -> dict[str, FashionData]:
    """A third each, as if they were worn garments, lying ones and other things."""
    parts = {name: rendered.select(np.arange(i, 60, 3)) for i, name in enumerate(("worn", "lying", "others"))}
    for name, part in parts.items():
        parts[name] = dataclasses.replace(part, splits=np.array(["train"] * 15 + ["val"] * 5))
    return parts


@pytest.fixture(scope="module")
def start(rendered: FashionData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows some of the categories, and one of its own."""
    torch.manual_seed(0)
    names = (*rendered.category_names[:5], "Spacesuit")
    arch = Architecture("test_efficientnet", SIZE, len(names), len(rendered.attribute_names), 16, width=0.1)
    groups = rendered.attribute_groups
    spec = ModelSpec(arch.backbone, SIZE, names, rendered.attribute_names, groups, 16, True, "", temperature=1.7)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(path, FashionNet(arch), spec)
    return path


def test_it_starts_from_the_rows_of_the_names_that_are_known(rendered: FashionData, start: Path) -> None:
    network, spec = worn_garments.start_network(start, rendered)
    before, spec_before = load_checkpoint(start)
    assert spec.categories == rendered.category_names and spec.temperature == 1.0
    for name in spec_before.categories[:5]:
        row, row_before = (names.index(name) for names in (spec.categories, spec_before.categories))
        assert torch.equal(network.category.weight[row], before.category.weight[row_before])
    assert torch.equal(network.pose.top_down.weight, before.pose.top_down.weight)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of four steps and one of two."""
    for name, value in {
        "ROUNDS": 3, "LYING": 6, "OTHERS": 4, "SHARES": {"worn": 4, "lying": 3, "others": 1}, "STEPS": (4, 2),
        "STEPS_A_ROUND": 2, "SAVE_EVERY": 2, "JUDGE_EVERY": 2, "PICTURES": 8,
    }.items():  # fmt: skip
        monkeypatch.setattr(worn_garments, name, value)


@pytest.mark.usefixtures("small")
def test_a_stopped_run_goes_on_to_the_same_weights(
    sets: dict[str, FashionData], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = worn_garments.run_on_worn_garments(sets, start, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["run"], line.get("step")) for line in lines] == [(0, 2), (0, 4), (1, 2), ("mean", None)]
    assert set(lines[0]) == {"run", "step", "lying", "worn"}
    save = worn_garments.save

    def stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worn_garments, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            worn_garments.run_on_worn_garments(sets, start, tmp_path / "stopped")
    again = worn_garments.run_on_worn_garments(sets, start, tmp_path / "stopped")
    first, second = (load_checkpoint(path)[0].state_dict() for path in (whole, again))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    before = load_checkpoint(start)[0].state_dict()
    stays, changes = "backbone.net.blocks.2.0.conv_pwl.weight", "backbone.net.blocks.4.0.conv_pw.weight"
    assert torch.equal(first[stays], before[stays]), "up to stride 8 nothing is trained"
    assert not torch.equal(first[changes], before[changes])


@pytest.mark.usefixtures("small")
def test_the_result_is_the_mean_of_runs_that_saw_other_batches(
    sets: dict[str, FashionData], start: Path, tmp_path: Path
) -> None:
    mean = load_checkpoint(worn_garments.run_on_worn_garments(sets, start, tmp_path))[0].state_dict()
    one, two = (load_checkpoint(worn_garments.train(sets, start, tmp_path, run))[0].state_dict() for run in (0, 1))
    assert not torch.equal(one["category.weight"], two["category.weight"])
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (one[name] + two[name]) / 2)


@pytest.mark.usefixtures("small")
def test_a_batch_has_its_shares(sets: dict[str, FashionData], start: Path, tmp_path: Path) -> None:
    data, rows = training_sets.joined(sets, "train")
    network, _ = worn_garments.start_network(start, data)
    views = worn_garments.round_of_views(tmp_path, 0, network, data, worn_garments.rows_of_round(rows, 0))
    assert len(views.rows) == 15 + 6 + 4
    features, batch = worn_garments.draw([views], data, rows, run=0, step=3)
    assert features.shape == (8, 32, 8, 8)
    assert [int(np.isin(batch.rows, part).sum()) for part in rows.values()] == [4, 3, 1]
    assert (batch.categories.numpy() == data.categories[batch.rows]).all()
    again = worn_garments.draw([views], data, rows, run=0, step=3)[1]
    assert torch.equal(again.rows, batch.rows)
    other = worn_garments.draw([views], data, rows, run=1, step=3)[1]
    assert not torch.equal(other.rows, batch.rows)


def test_the_embedding_is_fitted_on_both_precisions(
    rendered: FashionData, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_embedding, "CALIBRATION", 16)
    monkeypatch.setattr(
        photo_embedding, "LABELS", (("category",), ("category", "texture"))
    )  # rendered ones have others
    network, spec = load_checkpoint(start)
    network = photo_embedding.with_stages(network, spec)
    files = photo_embedding.both_precisions(network, spec, rendered, tmp_path)
    changes = {"whole": None, "changed": strong_views.strong_view}
    views = [
        photo_embedding.features_of(file, rendered, SIZE, change, tmp_path / f"{file.stem}-{how}.npy")
        for file in files
        for how, change in changes.items()
    ]
    assert len({view.tobytes() for view in views}) == 4, "every view and precision differs"
    pictures = np.concatenate(list(photo_embedding.pictures_of(rendered, SIZE, None)))
    photo_embedding.fit(network, rendered, views, EmbeddingConfig(steps=5, pairs=16))
    with torch.inference_mode():
        expected = network(torch.from_numpy(pictures))["embedding"].numpy()
    np.testing.assert_allclose(photo_embedding.embed(network, views[0]), expected, atol=1e-4)
    kept = photo_embedding.features_of(files[0], rendered, SIZE, None, tmp_path / "fp32-whole.npy")
    np.testing.assert_array_equal(kept, views[0])


def test_which_photos_are_found_again() -> None:
    gallery = np.eye(4, dtype=np.float32)
    changed = np.array([[0.9, 0.1, 0, 0], [0.6, 0.5, 0, 0], [0, 0, 0.7, 0.7 - 1e-3]], np.float32)
    assert photo_embedding.found_again(changed, gallery).tolist() == [True, False, True]


def test_who_belongs_together(rendered: FashionData) -> None:
    groups = ("texture", "sleeve") * (len(rendered.attribute_names) // 2 + 1)
    data = dataclasses.replace(rendered, attribute_groups=groups[: len(rendered.attribute_names)])
    categories = data.categories.copy()
    categories[0] = -1
    of_category, of_both = photo_embedding.belonging(dataclasses.replace(data, categories=categories))
    assert of_category[0] == of_both[0] == -1
    for i in range(1, 30):
        for j in range(i + 1, 30):
            same = data.categories[i] == data.categories[j]
            assert (of_category[i] == of_category[j]) == same
            assert (of_both[i] == of_both[j]) == (
                same and bool(((data.attributes[i] > 0) == (data.attributes[j] > 0)).all())
            )


def test_a_strong_view_shows_part_of_the_photo() -> None:
    photo = np.full((120, 80, 3), 200, np.uint8)
    photo[:60] = 20
    for seed in range(20):
        view = strong_views.strong_view(photo, np.random.default_rng(seed))
        assert 0.64 * 120 <= view.shape[0] <= 0.96 * 120 and 0.64 * 80 <= view.shape[1] <= 0.96 * 80
        assert view.dtype == np.uint8 and view.max() > view.min() + 50, "both halves are seen"
    same = [strong_views.strong_view(photo, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_some_worn_training_photos_are_kept_for_val(rendered: FashionData, tmp_path: Path) -> None:
    names = tuple(f"img/worn/{number:04d}_dress.jpg" for number in range(0, 60 * 12, 12))
    street = dataclasses.replace(rendered, images=names, splits=np.array(["train"] * 55 + ["test"] * 5))
    held = training_sets.hold_some_out(street)
    blocks = np.arange(0, 60 * 12, 12) // 20
    assert set(held.splits[55:]) == {"test"}
    chosen = set(blocks[held.splits == "val"].tolist())
    assert chosen and not chosen & set(blocks[held.splits == "train"].tolist()), "neighbours stay together"
