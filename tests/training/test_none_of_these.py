"""None of these: the classes' photos pass, and what was told apart from them does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fashion_infer.data.class_folders import read_class_folders, read_photos
from fashion_infer.training.features import features_of
from fashion_infer.training.linear_head import folds_of
from fashion_infer.training.none_of_these import KEPT, fit_none_of_these, pictures_of_nothing
from fashion_infer.training.own_labels import look_at
from fashion_infer.training.wide_heads import renumbered
from tests.training.own import paint, small_network


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], tuple]:
    folder = tmp_path_factory.mktemp("own")
    network, spec = small_network(heads="all")
    data = read_class_folders(paint(folder / "own", {"Hat": 20, "Shoes": 20, "Tee": 20}))
    spec = replace(spec, categories=data.category_names)
    photos = look_at(network, renumbered(data, spec.categories), iter)
    paint(folder / "others", {"bag": 20})
    others = features_of(network, read_photos(folder / "others")).values

    def fit(with_others: bool) -> tuple:
        folds = folds_of(photos.labels, photos.groups, 0)
        return (*fit_none_of_these(network, spec, photos, folds, others if with_others else None), photos, others)

    return fit


def scores(spec: object, embeddings: np.ndarray) -> np.ndarray:
    logits = embeddings @ spec.garment_vector + spec.garment_bias  # type: ignore[attr-defined]
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("with_others", [False, True])
def test_the_classes_pass_at_the_threshold(fitted: Callable[[bool], tuple], with_others: bool) -> None:
    spec, report, photos, others = fitted(with_others)
    assert (scores(spec, photos.embeddings(8)) >= 0.5).mean() >= KEPT - 0.05
    assert report.passed >= KEPT
    assert report.scenes_refused > 0.5
    if not with_others:
        assert report.others_refused is None
        return
    assert report.others_refused > 0.5
    without = fitted(False)[0]
    assert scores(spec, others[:, -8:]).mean() < scores(without, others[:, -8:]).mean()


def test_each_class_is_tried_as_if_nobody_had_taught_it(fitted: Callable[[bool], tuple]) -> None:
    report = fitted(False)[1]
    assert set(report.left_out_refused) == {"Hat", "Shoes", "Tee"}
    assert all(0 <= share <= 1 for share in report.left_out_refused.values())


def test_the_pictures_of_nothing_are_always_the_same_and_differ() -> None:
    pictures = pictures_of_nothing(32)
    assert pictures.shape[1:] == (32, 32, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, pictures_of_nothing(32))
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)
