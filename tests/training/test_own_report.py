"""What is said about a model that was taught."""

from pathlib import Path

import numpy as np
import pytest

from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.training.own_labels import Photos, load_photos
from fashion_infer.training.own_report import accuracy_of, confusion_of, doubts_of, report_place, sheet_place
from tests.training.own import paint, small_network


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(8, 10, 0.490, 0.943), (10, 10, 0.722, 1.0), (0, 10, 0.0, 0.278), (180, 200, 0.851, 0.934)],
)
def test_wilsons_interval(right: int, count: int, low: float, high: float) -> None:
    """The values of Wilson's formula as tables of it have them."""
    labels = np.zeros(count, np.int64)
    logits = np.stack([np.arange(count) < right, np.arange(count) >= right], 1).astype(float)
    accuracy = accuracy_of(logits, labels, np.arange(count))
    assert accuracy.share == right / count
    assert accuracy.low == pytest.approx(low, abs=1e-3)
    assert accuracy.high == pytest.approx(high, abs=1e-3)


def test_near_duplicates_count_once_in_the_interval() -> None:
    labels, logits = np.zeros(20, np.int64), np.tile([1.0, 0.0], (20, 1))
    apart, alike = accuracy_of(logits, labels, np.arange(20)), accuracy_of(logits, labels, np.arange(20) // 4)
    assert (alike.photos, alike.groups) == (20, 5)
    assert alike.low < apart.low


def test_confusions_by_class_the_most_frequent_first() -> None:
    logits = np.eye(3)[[0, 0, 1, 1, 1, 0, 2]]
    confusion = confusion_of(logits, np.array([0, 0, 0, 1, 1, 1, 2]), ("a", "b", "c"))
    assert confusion == {"a": {"a": 2, "b": 1}, "b": {"b": 2, "a": 1}, "c": {"c": 1}}
    assert list(confusion["b"]) == ["b", "a"]


def test_a_class_without_photos_is_not_among_the_confusions() -> None:
    assert confusion_of(np.eye(2)[[1]], np.array([0]), ("a", "b")) == {"a": {"b": 1}}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    data = read_class_folders(paint(tmp_path_factory.mktemp("own"), {"Hat": 8, "Tee": 8}))
    return load_photos(small_network(heads="all")[0], data, iter)


def test_doubtful_photos_come_the_worst_first_with_another_guess(photos: Photos) -> None:
    logits = np.tile([2.0, 0.0], (16, 1))
    logits[8:] = 0, 2
    logits[3], logits[12] = (-3, 0), (5, 0)
    doubts = doubts_of(logits, photos, ("Hat", "Tee"))
    assert len(doubts) == 10
    assert [Path(doubt.image).relative_to(photos.data.image_root).as_posix() for doubt in doubts[:2]] == [
        photos.data.images[12],
        photos.data.images[3],
    ]
    assert (doubts[0].label, doubts[0].guess, doubts[0].box) == ("Tee", "Hat", None)
    assert doubts[0].score == pytest.approx(1 / (1 + np.exp(5)))
    assert all(doubt.label != doubt.guess for doubt in doubts)


def test_what_is_written_lies_beside_the_checkpoint() -> None:
    place = Path("models/own.v2.safetensors")
    assert report_place(place) == Path("models/own.v2.report.json")
    assert sheet_place(place) == Path("models/own.v2.doubtful.jpg")
