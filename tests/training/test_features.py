"""Features are computed once for each photo, whatever its name, and are what the heads read."""

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.files import cache_folder
from fashion_infer.preprocess import read_inputs
from fashion_infer.training.features import BATCH, features_of, features_of_pixels, logits_of
from fashion_infer.training.model import FashionNet
from tests.training.own import paint, small_network


@pytest.fixture(scope="module")
def network() -> FashionNet:
    return small_network(heads="all")[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> FashionData:
    return read_class_folders(paint(tmp_path / "own", {"Hat": 12, "Tee": 9}))


@pytest.fixture
def runs(network: FashionNet) -> Iterator[list[int]]:
    """How many pictures each call of the network was given."""
    counts: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    yield counts
    hook.remove()


def test_they_are_what_the_heads_read(network: FashionNet, data: FashionData) -> None:
    features = features_of(network, data)
    assert features.rows.tolist() == list(range(21))
    assert features.values.shape == (21, sum(network.blocks))
    pixels = read_inputs([data.image_root / name for name in data.images], 32)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(pixels))
        category = network.category(torch.from_numpy(features.values))
    np.testing.assert_allclose(category.numpy(), outputs["category"].numpy(), atol=1e-5)
    np.testing.assert_allclose(features.values[:, -8:], outputs["embedding"].numpy(), atol=1e-6)
    np.testing.assert_allclose(features_of_pixels(network, pixels), features.values, atol=1e-5)
    np.testing.assert_allclose(logits_of(network, data), outputs["category"].numpy(), atol=1e-5)
    assert features.thumbnails.shape == (21, 32, 32)


def test_a_photo_is_looked_at_once_whatever_it_is_called(
    network: FashionNet, data: FashionData, runs: list[int], tmp_path: Path
) -> None:
    first = features_of(network, data)
    assert sum(runs) == 21
    shutil.move(tmp_path / "own" / "Hat", tmp_path / "own" / "Cap")
    paint(tmp_path / "own", {"bag": 2})
    runs.clear()
    again = features_of(network, read_class_folders(tmp_path / "own"))
    assert sum(runs) == 2
    assert np.array_equal(again.values[:12], first.values[:12])
    assert np.array_equal(again.thumbnails[:12], first.thumbnails[:12])
    assert again.keys[:12] == first.keys[:12]


def test_another_box_and_another_network_are_looked_at_anew(
    network: FashionNet, data: FashionData, runs: list[int]
) -> None:
    features_of(network, data)
    runs.clear()
    boxes = data.boxes.copy()
    boxes[0] = 0, 0, 24, 24
    assert features_of(network, replace(data, boxes=boxes)).keys[0] != features_of(network, data).keys[0]
    assert sum(runs) == 1
    other = small_network(heads="all")[0]
    with torch.no_grad():
        other.category.weight.zero_()
    hook = other.register_forward_pre_hook(lambda *_: pytest.fail("only its head is another"))
    features_of(other, data)
    hook.remove()
    with torch.no_grad():
        other.embedding.weight.zero_()
    assert not np.array_equal(features_of(other, data).values, features_of(network, data).values)


def test_a_run_that_is_stopped_has_kept_its_batches(network: FashionNet, data: FashionData, runs: list[int]) -> None:
    def stop(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(runs) == 2:
            raise KeyboardInterrupt

    hook = network.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        features_of(network, data)
    hook.remove()
    runs.clear()
    features_of(network, data)
    assert sum(runs) == 21 - BATCH


def test_a_photo_that_cannot_be_read_is_left_out(network: FashionNet, data: FashionData) -> None:
    (data.image_root / data.images[3]).write_bytes(b"\xff\xd8\xff nothing")
    (data.image_root / data.images[5]).write_bytes(b"")
    features = features_of(network, data)
    assert set(features.skipped) == {data.images[3], data.images[5]}
    assert 3 not in features.rows
    assert len(features.values) == len(features.keys) == 19


@pytest.mark.parametrize("damage", ["no database", "no folder"])
def test_a_cache_that_cannot_be_used_costs_only_time(
    network: FashionNet, data: FashionData, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = features_of(network, data).values
    (file,) = (cache_folder() / "features").iterdir()
    if damage == "no folder":
        shutil.rmtree(file.parent)
        file.parent.write_bytes(b"")
    else:
        file.write_bytes(b"no database " * 1000)
    with caplog.at_level(logging.WARNING):
        values = features_of(network, data).values
    assert np.array_equal(values, expected)
    assert "are not kept for the next run" in caplog.text


def test_what_is_kept_is_plain_numbers(network: FashionNet, data: FashionData) -> None:
    values = features_of(network, data).values
    (file,) = (cache_folder() / "features").iterdir()
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT features FROM photos").fetchall()
    connection.close()
    assert len(rows) == 21
    kept = np.stack([np.frombuffer(row[0], np.float32) for row in rows])
    assert np.array_equal(np.sort(kept, axis=0), np.sort(values, axis=0))
