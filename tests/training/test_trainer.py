import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashion_infer.data.deepfashion import FashionData
from fashion_infer.data.deepfashion2 import CATEGORIES
from fashion_infer.errors import DataError, DeviceError, ModelError, TrainingError, UsageError
from fashion_infer.evaluation.judging import judge_folder
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.predictor import Predictor
from fashion_infer.training import trainer
from fashion_infer.training.checkpoint import load_checkpoint
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.run_folder import STATE
from fashion_infer.training.trainer import learning_rate_at, stage_at, train, train_folder

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
from pathlib import Path
import torch
from fashion_infer.training import trainer
torch.set_num_threads(1)
trainer.SAVE_SECONDS = 0
config = trainer.TrainConfig(backbone="vgg16", image_size=32, width=0.03, epochs=3, batch_size=4, workers=1)
trainer.train_folder(config, Path({data!r}), Path({folder!r}))
"""


def lines(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


def start(data_set: Path, folder: Path, steps: int) -> subprocess.Popen[str]:
    """A run in a process of its own that has logged so many steps."""
    code = PROGRAM.format(data=str(data_set / "category_attribute"), folder=str(folder))
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or len(lines_so_far(folder)) < steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def lines_so_far(folder: Path) -> list[str]:
    return (folder / "metrics.jsonl").read_text().splitlines()


# -------------------------------------------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [(0, [None] * 8), (1, [1, 1, 1, 1, 2, 2, 2, 2]), (2, [1, 1, 2, 2, 1, 1, 2, 2]), (4, [1, 2, 1, 2, 1, 2, 1, 2])],
)
def test_the_stages_take_turns(rounds: int, expected: list[int | None]) -> None:
    assert [stage_at(step, 8, rounds) for step in range(8)] == expected


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    config = TrainConfig(learning_rate=1.0)
    rates = [learning_rate_at(step, 200, config) for step in range(200)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert max(rates) == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[105] == pytest.approx(0.5, abs=0.01)
    assert 0 < rates[199] < 0.001
    assert learning_rate_at(0, 1, config) == 1


# -------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"image_size": 100}, "multiple of 32"), ({"pooling": "roi"}, "pooling must be one of landmarks, grid, none")],
)
def test_networks_that_cannot_be_built(
    settings: dict[str, Any], message: str, config: TrainConfig, training: FashionData, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train(replace(config, **settings), training, training, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(device: str, config: TrainConfig, training: FashionData, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=f"torch cannot use device '{device}'"):
        train(replace(config, device=device), training, training, tmp_path / "run")


# -------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def whole_run(data_set: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 steps in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train_folder(replace(config, epochs=3), data_set / "category_attribute", folder)
    torch.set_num_threads(before)
    return folder


def test_a_run_records_what_it_was(whole_run: Path, config: TrainConfig) -> None:
    record = json.loads((whole_run / "config.json").read_text())
    assert record["config"]["width"] == config.width
    assert record["versions"].keys() == {"python", "torch", "fashion_infer"}
    assert record["commit"] is None or len(record["commit"]) == 40
    assert list((whole_run / "tensorboard").iterdir())
    assert not (whole_run / "skipped.json").exists()


def test_every_step_logs_every_loss(whole_run: Path) -> None:
    log = lines(whole_run)
    assert [line["step"] for line in log] == list(range(1, 22))
    names = {"landmarks", "visibility", "category", "attributes", "triplet", "total", "grad_norm", "learning_rate"}
    assert names < log[0].keys()
    assert {"stage", "images_per_second"} < log[0].keys()
    for line in log:
        parts = sum(line[name] for name in ("landmarks", "visibility", "category", "attributes", "triplet"))
        assert line["total"] == pytest.approx(parts, rel=1e-5)
    assert [line["stage"] for line in log] == [1] * 6 + [2] * 5 + [1] * 5 + [2] * 5


def test_each_epoch_is_judged(whole_run: Path) -> None:
    log = lines(whole_run, "validation")
    assert [line["step"] for line in log] == [7, 14, 21]
    assert {"category_top1", "category_top3", "attribute_recall3_all", "landmark_error_box", "pdl_35_box"} < log[
        0
    ].keys()


def test_the_checkpoint_is_the_average_of_the_weights(whole_run: Path, training: FashionData) -> None:
    network, spec = load_checkpoint(whole_run / "model.safetensors")
    assert (spec.categories, spec.attributes) == (training.category_names, training.attribute_names)
    assert spec.trained
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_training_learns(training: FashionData, config: TrainConfig, tmp_path: Path) -> None:
    """Four pictures by heart."""
    few = training.select([0, 4, 8, 12])
    settings = replace(config, learning_rate=3e-3, rounds=0, losses=("visibility", "category", "attributes"))
    train(settings, few.select([0, 1, 2, 3] * 40), few, tmp_path / "run")
    log = lines(tmp_path / "run")
    assert log[-1]["total"] < 0.7 * log[0]["total"]


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling": "none"},
        {"pooling": "grid"},
        {"gate": False},
        {"rounds": 0},
        {"precision": "bf16"},
        {"pooled_size": 2, "bin_size": 1},
        {"losses": ("category", "triplet")},
    ],
    ids=lambda settings: "-".join(map(str, settings.items())),
)
def test_each_part_can_be_switched(
    settings: dict[str, Any], training: FashionData, config: TrainConfig, tmp_path: Path
) -> None:
    changed = replace(config, **settings)
    checkpoint = train(changed, training.select(range(4)), training.select(range(4)), tmp_path / "run")
    (line,) = lines(tmp_path / "run")
    assert line["total"] == pytest.approx(sum(line[name] for name in changed.losses), rel=1e-4)
    arch = load_checkpoint(checkpoint)[0].arch
    for name in ("pooling", "gate", "pooled_size", "bin_size"):
        assert getattr(arch, name) == getattr(changed, name)


def test_frozen_early_layers_stay_as_they_started(training: FashionData, config: TrainConfig, tmp_path: Path) -> None:
    frozen = replace(config, backbone="test_efficientnet", freeze_early=True, augmentation="strong")
    torch.manual_seed(frozen.seed)
    start = trainer._new_state(frozen, trainer._spec(frozen, training), None, None).model
    network, _ = load_checkpoint(train(frozen, training, training, tmp_path))
    before, after = start.state_dict(), network.state_dict()
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert {"backbone.net.conv_stem.weight", "backbone.net.bn1.running_mean"} <= same
    assert "backbone.net.blocks.1.0.conv_exp.weight" in same
    assert "backbone.net.blocks.2.0.conv_exp.weight" not in same
    assert "category.weight" not in same


def test_a_run_starts_from_the_network_of_another(
    training: FashionData, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "EMA_DECAY", 0.0)
    config = replace(config, backbone="test_efficientnet", landmark_norm="l1", balanced=False)
    first = train(config, training, training, tmp_path / "first")
    larger = replace(config, image_size=64, learning_rate=1e-12)
    second = train(larger, training, training, tmp_path / "second", start_from=first)
    before, after = load_checkpoint(first)[0].state_dict(), load_checkpoint(second)[0].state_dict()
    torch.testing.assert_close(after["category.weight"], before["category.weight"])
    fewer = replace(training, attribute_names=training.attribute_names[:-1])
    fewer = replace(
        fewer,
        attribute_groups=training.attribute_groups[:-1],
        attributes=np.ascontiguousarray(training.attributes[:, :-1]),
    )
    with pytest.raises(ModelError, match="other categories or attributes"):
        train(config, fewer, fewer, tmp_path / "third", start_from=first)
    with pytest.raises(ModelError, match="another architecture"):
        train(replace(config, width=0.5), training, training, tmp_path / "fourth", start_from=first)


def test_a_loss_left_out_trains_nothing(
    training: FashionData, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "EMA_DECAY", 0.0)
    few = training.select(range(4))
    settings = replace(config, losses=("category",), weight_decay=0.0)
    checkpoint = train(settings, few, few, tmp_path / "run")
    network, spec = load_checkpoint(checkpoint)
    trained = network.state_dict()
    torch.manual_seed(config.seed)
    untrained = trainer._new_state(settings, spec, None, None).model.state_dict()
    changed = {name for name in trained if not torch.equal(trained[name], untrained[name])}
    assert {"category.weight", "fc7_fusion.0.weight"} <= changed
    assert not [name for name in changed if name.startswith(("pose", "attributes", "embedding"))]


# -------------------------------------------------------------------------------------------------- stopped runs


def test_a_killed_run_goes_on_to_the_same_losses(
    data_set: Path, whole_run: Path, config: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(data_set, folder, steps=9)
    process.kill()
    process.communicate()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # as a kill may leave it
    train_folder(replace(config, epochs=3), data_set / "category_attribute", folder, resume=True)
    for kind in ("train", "validation"):
        resumed, whole = lines(folder, kind), lines(whole_run, kind)
        assert [line["step"] for line in resumed] == [line["step"] for line in whole]
        for name in {*whole[0]} - {"kind", "images_per_second"}:
            values = [line[name] for line in whole]
            assert [line[name] for line in resumed] == pytest.approx(values, rel=1e-5, abs=1e-7), name


def test_only_the_same_run_is_resumed(
    whole_run: Path, data_set: Path, config: TrainConfig, training: FashionData, tmp_path: Path
) -> None:
    data = data_set / "category_attribute"
    with pytest.raises(TrainingError, match=r"holds no run to resume .*start it without --resume"):
        train_folder(config, data, tmp_path, resume=True)
    with pytest.raises(TrainingError, match=r"holds a run already: add --resume"):
        train_folder(config, data, whole_run)
    with pytest.raises(TrainingError, match=r"has other settings \(epochs, learning_rate\)"):
        train_folder(replace(config, epochs=4, learning_rate=1.0), data, whole_run, resume=True)
    with pytest.raises(TrainingError, match=r"has other settings \(training_data\)"):
        train(replace(config, epochs=3), training.select(range(20)), training, whole_run, resume=True)
    train_folder(replace(config, epochs=3, workers=1), data, whole_run, resume=True)  # done already


def test_a_loss_that_is_no_number_leaves_the_last_good_state(
    training: FashionData, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One landmark is infinitely far off, in a picture whose turn comes in the second epoch."""
    monkeypatch.setattr(trainer, "SAVE_SECONDS", 0)
    order = trainer.Loader(training, 32, config.seed, 0)
    rows = torch.cat([batch.rows for batch in order.batches(config.batch_size, 0, 7)])
    landmarks = training.landmarks.copy()
    landmarks[int(rows[-1])] = 1e30
    visibility = training.visibility.copy()
    visibility[int(rows[-1])] = 0
    bad = replace(training, landmarks=landmarks, visibility=visibility)
    monkeypatch.setattr("fashion_infer.training.batches.cut_off", lambda landmarks, visibility: visibility)
    with pytest.raises(TrainingError, match=r"landmarks, total.* not finite at step 6: the last good state"):
        train(config, bad, training, tmp_path / "run")
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    from safetensors.torch import load_file

    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "run" / STATE).values() if tensor.numel())


def test_a_rate_far_too_high_is_noticed(training: FashionData, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step \d+: .*lower learning rate"):
        train(replace(config, learning_rate=1e12, epochs=3), training, training.select([0]), tmp_path / "run")


# -------------------------------------------------------------------------------------------------- bad data


def test_missing_files(config: TrainConfig, data_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no set with labelled categories: it would be one of category, "):
        train_folder(config, tmp_path, tmp_path / "run")
    with pytest.raises(DataError, match="holds no set with several photos of an item"):
        train_folder(config, data_set / "category_attribute", tmp_path / "run", pairs=tmp_path)
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on(config: TrainConfig, training: FashionData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images to train on"):
        train(config, training.select([]), training, tmp_path / "run")


def test_pairs_of_either_retrieval_benchmark(config: TrainConfig, data_set: Path, tmp_path: Path) -> None:
    for name in ("in_shop", "consumer_to_shop"):
        train_folder(
            replace(config, batch_size=16), data_set / "category_attribute", tmp_path / name, pairs=data_set / name
        )
        assert all(line["triplet"] > 0 for line in lines(tmp_path / name))


def test_truncated_pictures_in_the_middle_of_an_epoch(
    config: TrainConfig, training: FashionData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    for name in training.images:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes((training.image_root / name).read_bytes())
    for row in (2, 11):
        path = images / training.images[row]
        path.write_bytes(path.read_bytes()[:700])
    data = replace(training, image_root=images)
    train(replace(config, epochs=2), data, data.select([0, 11]), tmp_path / "run")
    skipped = json.loads((tmp_path / "run/skipped.json").read_text())
    assert sorted(skipped) == sorted([data.images[2], data.images[11]])
    assert "2 images could not be read and were left out" in caplog.text
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 15))


def test_one_class(config: TrainConfig, training: FashionData, tmp_path: Path) -> None:
    one = replace(training, category_names=("Tee",), categories=np.zeros(len(training), np.int16))
    train(config, one, one, tmp_path / "run")
    assert {line["category"] for line in lines(tmp_path / "run")} == {0.0}
    assert lines(tmp_path / "run", "validation")[0]["category_top1"] == 1


def test_an_attribute_without_positives_is_named_and_learns_that_it_is_absent(
    training: FashionData, caplog: pytest.LogCaptureFixture
) -> None:
    attributes = np.array([[1, -1, 0, 1], [-1, -1, 0, 1], [-1, -1, 0, 0], [0, -1, 0, 1]], np.int8)
    few = replace(
        training.select(range(4)),
        attributes=attributes,
        attribute_names=("mixed", "never", "unknown", "always"),
        attribute_groups=("part",) * 4,
    )
    share = trainer._positive_share(few)
    assert share.tolist() == pytest.approx([1 / 3, 0.5, 0.5, 0.5])
    assert "3 attributes have no positive or no negative label: never, unknown, always" in caplog.text


def test_a_set_without_landmarks_and_attributes_is_trained_on_what_it_has(
    config: TrainConfig, data_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "set"
    shutil.copytree(data_set / "category_attribute", root)
    for name in ("landmarks", "attr_img", "bbox"):
        (root / f"Anno/list_{name}.txt").unlink()
    checkpoint = train_folder(config, root, tmp_path / "run")
    _, spec = load_checkpoint(checkpoint)
    assert spec.attributes == ()
    assert "list_landmarks.txt is not there: landmarks are neither trained nor judged" in caplog.text
    for line in lines(tmp_path / "run"):
        assert line["landmarks"] == line["visibility"] == line["attributes"] == 0
        assert line["category"] > 0
    (judged,) = lines(tmp_path / "run", "validation")
    assert {"category_top1", "category_top3"} < judged.keys()
    assert not [name for name in judged if name.startswith(("landmark", "attribute"))]


def write_deepfashion2(root: Path, data: FashionData) -> None:
    """Rendered pictures as skirts and short sleeve tops, two of an item."""
    for row, name in enumerate(data.images[:24]):
        split = "train" if row < 16 else "validation"
        category = ("skirt", "short sleeve top")[row % 2]
        points = [(10 + n, 20 + n, 2) for n in range(CATEGORIES[category][1])]
        garment = {
            "category_name": category,
            "style": 1,
            "bounding_box": data.boxes[row].tolist(),
            "landmarks": [number for point in points for number in point],
        }
        facts = {"source": ("user", "shop")[row // 2 % 2], "pair_id": row // 4 * 2 + row % 2, "item1": garment}
        for kind, content in (
            ("annos", json.dumps(facts).encode()),
            ("image", (data.image_root / name).read_bytes()),
        ):
            path = root / split / kind / f"{row:06}.{'json' if kind == 'annos' else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def test_deepfashion2_goes_through_the_whole_chain(config: TrainConfig, training: FashionData, tmp_path: Path) -> None:
    """Trained, exported and judged as DeepFashion is; its pairs are for the triplet loss, too."""
    root = tmp_path / "set"
    write_deepfashion2(root, training)
    checkpoint = train_folder(replace(config, batch_size=8), root, tmp_path / "run", pairs=root)
    assert any(line["triplet"] > 0 for line in lines(tmp_path / "run"))
    model = tmp_path / "model.onnx"
    export_onnx(checkpoint, model)
    with Predictor(model) as predictor:
        assert predictor.spec.categories == tuple(CATEGORIES)
        prediction = predictor.predict(root / "train/image/000000.jpg")
        assert prediction.attributes == ()
        judged = judge_folder(predictor.run, predictor.spec, root, split="val").judgements["deepfashion2"]
    metrics = judged.evaluation.to_dict()
    assert judged.images == 8
    assert {"category_top1", "landmark_error_box", "retrieval_hit1", "retrieval_map"} < metrics.keys()
    assert metrics["landmark_count_left_waistline"] == 4, "of the skirts"
    assert len(judged.ranks) == 4
