"""The benchmark of own categories draws as it says, on painted pictures: the photos are not in the repository."""

import csv
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import own_categories
import pytest

from fashion_infer.training.checkpoint import save_checkpoint
from tests.training.own import COLORS, picture, small_network

CLASSES = ("hat", "shoes", "dress", "shirt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes in train and test, four more in extra, of several senders."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = []
    for split, names, count in (("train", CLASSES, 7), ("test", CLASSES, 8), ("extra", own_categories.FOUR_MORE, 14)):
        for name, color in zip(names, COLORS.values(), strict=True):
            for number in range(count):
                place = f"Img/img/{split}/{name}/{split}{name}{number}.png"
                (root / place).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / place), picture(rng, color))
                sender = f"{split}{number % 7}" if split == "extra" else f"{split}{number // 5}"
                rows.append({"path": place, "split": split, "class": name, "sender_id": sender})
    with (root / "photos.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_nothing_that_is_judged_is_of_a_sender_that_was_learnt_from(photos: Path) -> None:
    listed = own_categories.read_photos_csv(photos)
    draws = own_categories.draws(listed, 5, 3)
    assert {draw.task for draw in draws} == {"ten classes", "four more", "unseen"}
    assert len(draws) == 9
    for draw in draws:
        assert not {p.sender for p in draw.learnt} & {p.sender for p in draw.judged}
        labels = [p.label for p in draw.learnt]
        assert all(labels.count(label) == 5 for label in labels)
        assert {p.label for p in draw.judged} <= set(labels)
    assert draws == own_categories.draws(listed, 5, 3)
    assert {d.task for d in own_categories.draws(listed, 100, 1)} == set()


def test_the_gain_is_of_photos_and_its_interval_too() -> None:
    photo = own_categories.Photo(Path("a"), "test", "dress", "1")
    other = own_categories.Photo(Path("b"), "test", "hat", "1")
    draw = own_categories.Draw("ten classes", 5, 0, [], [photo, other])
    outcome = own_categories.Outcome
    run = {"draw": draw, "ours": outcome([True, True], 2.0), "probe": outcome([False, True], 4.0)}
    rows = {row["photos"]: row for row in own_categories.summary([run])}
    assert (rows["all"]["ours"], rows["all"]["probe"], rows["all"]["gain"]) == (1, 0.5, 0.5)
    assert (rows["garments"]["gain"], rows["garments"]["low"], rows["hats and shoes"]["gain"]) == (1, 1, 0)
    assert rows["all"]["low"] == 0
    assert rows["all"]["high"] == 1
    assert "| ten classes | 5 | 1 garments | 100.0% | 0.0% | +100.0 (+100.0 to +100.0) | 2 / 4 |" in (
        own_categories.table(list(rows.values()))
    )


def test_it_runs(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.NOTSET, "fashion_infer")  # the benchmark silences it; pytest puts it back for later tests
    save_checkpoint(tmp_path / "small.safetensors", *small_network())
    own_categories.main(photos, str(tmp_path / "small.safetensors"), 1, "5", tmp_path)
    measured = json.loads((tmp_path / "own_categories.json").read_text())
    assert {row["task"] for row in measured["summary"]} == {"ten classes", "four more", "unseen"}
    assert all(row["ours"] > 0.6 and row["probe"] > 0.6 for row in measured["summary"])  # the colours are plain to see
    assert all(run["ours"]["seconds"] > 0 for run in measured["runs"])
    assert "| unseen | 5 |" in (tmp_path / "own_categories.md").read_text()
