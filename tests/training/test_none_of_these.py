"""None of these: the classes' photos pass, and what was told apart from them does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.training.linear_head import Head, folds_of
from fashion_infer.training.none_of_these import KEPT, NoneReport, fit_none_of_these, fit_score, pictures_of_nothing
from fashion_infer.training.own_labels import load_photos
from fashion_infer.training.wide_heads import renumbered
from tests.training.own import paint, small_network

SIZE, NAMES = 32, np.repeat(["Hat", "Shoes", "Tee"], 20)
Clusters = Callable[[int, int], np.ndarray]


@pytest.fixture(scope="module")
def cluster() -> Clusters:
    """Gives embeddings of unit length around a direction: so many, of the direction of that number."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(6, SIZE))

    def draw(count: int, number: int) -> np.ndarray:
        vectors = directions[number] + 0.5 * rng.normal(size=(count, SIZE))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return draw


def fitted(cluster: Clusters, others: np.ndarray | None) -> tuple[Head, np.ndarray, NoneReport]:
    own = np.concatenate([cluster(20, number) for number in range(3)])
    start = Head(np.zeros((1, SIZE)), np.zeros(1))
    return fit_score(own, list(NAMES), np.arange(60) % 5, cluster(60, 3), others, start)


def test_the_classes_pass_and_nothing_does_not(cluster: Clusters) -> None:
    head, scores, report = fitted(cluster, None)
    assert report.passed == pytest.approx(KEPT, abs=0.02)
    assert report.scenes_refused > 0.95
    assert report.others_refused is None
    assert (scores > 0).mean() > 0.9
    new = np.concatenate([cluster(50, number) for number in range(3)])
    assert (head.logits(new) > 0).mean() > 0.8
    assert (head.logits(cluster(50, 3)) < 0).mean() > 0.9


def test_photos_of_other_things_teach_what_to_refuse(cluster: Clusters) -> None:
    other = cluster(50, 4)
    without, (head, _, report) = fitted(cluster, None)[0], fitted(cluster, cluster(40, 4))
    assert report.others_refused > 0.9
    assert (head.logits(other) < 0).mean() > 0.9
    assert head.logits(other).mean() < without.logits(other).mean()


def test_each_class_is_tried_as_if_nobody_had_taught_it(cluster: Clusters) -> None:
    report = fitted(cluster, None)[2]
    assert set(report.left_out_refused) == {"Hat", "Shoes", "Tee"}
    assert np.mean(list(report.left_out_refused.values())) > 2 * (1 - KEPT)  # more often than where it was taught


def test_a_score_that_the_model_has_is_where_it_starts(cluster: Clusters) -> None:
    """Of five photos nothing new is learnt about a class that the model's score knows."""
    features = cluster(40, 5)
    start = Head(8 * features.mean(0, keepdims=True).astype(np.float64), np.array([-4.0]))
    own = np.concatenate([cluster(5, number) for number in range(3)])
    names = list(np.repeat(["Hat", "Shoes", "Tee"], 5))
    heads = [
        fit_score(own, names, np.arange(15) % 5, cluster(60, 3), None, begin)[0]
        for begin in (start, Head(0 * start.weight, 0 * start.bias))
    ]
    scores = [float(head.logits(features).mean() - head.logits(cluster(60, 3)).mean()) for head in heads]
    assert scores[0] > scores[1]


def test_the_spec_has_it_and_a_photo_of_nothing_is_named(tmp_path: Path) -> None:
    network, spec = small_network(heads="all")
    data = read_class_folders(paint(tmp_path / "own", {"Hat": 20, "Shoes": 20}))
    spec = replace(spec, categories=data.category_names)
    photos = load_photos(network, renumbered(data, spec.categories), iter)
    folds = folds_of(photos.labels, photos.groups, 0)
    scored, report = fit_none_of_these(network, spec, photos, folds, None)
    logits = photos.embeddings(8) @ scored.garment_vector + scored.garment_bias
    assert (logits >= 0).mean() >= KEPT - 0.1
    assert report.left_out_refused == {}  # of two classes one alone would be left
    assert set(report.strangers) <= {str(photos.path(row)) for row in range(40)}


def test_the_pictures_of_nothing_are_always_the_same_and_differ() -> None:
    pictures = pictures_of_nothing(32)
    assert pictures.shape[1:] == (32, 32, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, pictures_of_nothing(32))
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)
