"""The fit of a head is scikit-learn's where both do the same, and does what scikit-learn cannot."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fashion_infer.training.linear_head import (
    FOLDS,
    STRENGTHS,
    Fitting,
    Head,
    cross_validate,
    fit,
    folds_of,
    groups_of,
    mean_loss,
    path,
)

CLASSES, SIZE = 4, 12


def photos(count: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] around a centre for each class, on scales that differ by feature."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centres = np.random.default_rng(9).normal(size=(CLASSES, SIZE))
    features = (centres[labels] + rng.normal(size=(count, SIZE))) * np.geomspace(0.01, 50, SIZE) + 3
    return features.astype(np.float32), labels.astype(np.int64)


def zeros(classes: int = CLASSES, size: int = SIZE) -> Head:
    return Head(np.zeros((classes, size)), np.zeros(classes))


def softmax(trained: int = CLASSES) -> Fitting:
    """The last `trained` rows are fitted."""
    return Fitting("softmax", (1,) * SIZE, np.arange(CLASSES) >= CLASSES - trained)


@pytest.mark.parametrize("count", [80, 9], ids=["more photos than features", "fewer"])
def test_it_is_scikit_learns_on_standardised_features(count: int) -> None:
    features, labels = photos(count)
    strength = STRENGTHS[2]
    head = fit(features, labels, zeros(), strength, softmax())
    standard = (features - features.mean(0)) / features.std(0) / np.sqrt(SIZE)
    theirs = LogisticRegression(C=1 / (strength * count), tol=1e-8, max_iter=5000).fit(standard, labels)
    ours = head.logits(features)
    expected = theirs.decision_function(standard)
    np.testing.assert_allclose(
        ours - ours.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=0.02
    )


def test_binary_rows_are_fitted_each_by_itself_and_unknown_labels_do_not_count() -> None:
    features, labels = photos()
    targets = np.where(labels[:, None] == np.arange(CLASSES), 1, -1)
    targets[:20, 2] = 0
    fitting = Fitting("binary", (1,) * SIZE, np.ones(CLASSES, np.bool_))
    head = fit(features, targets, zeros(), STRENGTHS[4], fitting)
    other = np.where((targets == 0) | (np.arange(CLASSES) != 2), targets, -targets)
    turned = fit(features, other, zeros(), STRENGTHS[4], fitting)
    np.testing.assert_allclose(turned.weight[2], -head.weight[2], rtol=0.05, atol=1e-3 * np.abs(head.weight[2]).max())
    np.testing.assert_allclose(turned.weight[:2], head.weight[:2], rtol=0.05, atol=1e-3 * np.abs(head.weight).max())
    assert ((head.logits(features) > 0) == (targets > 0))[20:].mean() > 0.9


def test_a_frozen_row_stays_bit_for_bit_and_the_new_one_finds_its_place() -> None:
    features, labels = photos()
    old = labels < CLASSES - 1
    before = fit(
        features[old], labels[old], zeros(CLASSES - 1), STRENGTHS[4], Fitting("softmax", (1,) * SIZE, np.ones(3, bool))
    )
    start = Head(np.pad(before.weight, ((0, 1), (0, 0))), np.pad(before.bias, (0, 1)))
    after = fit(features, labels, start, STRENGTHS[4], softmax(trained=1))
    assert np.array_equal(after.weight[:3], before.weight)
    assert np.array_equal(after.bias[:3], before.bias)
    assert np.array_equal(after.logits(features)[:, :3], before.logits(features))
    called = after.logits(features).argmax(1)
    assert (called[~old] == 3).mean() > 0.8
    assert (called[old] == labels[old]).mean() > 0.8
    assert np.array_equal(start.weight[3], np.zeros(SIZE))  # what it is given is not changed


def test_a_strong_penalty_keeps_the_rows_that_know_something() -> None:
    features, labels = photos()
    good = fit(features, labels, zeros(), STRENGTHS[-1], softmax())
    features, labels = photos(8, seed=5)
    few = features, (labels + 1) % CLASSES  # which says otherwise
    again, weak = (fit(*few, good, strength, softmax()) for strength in (STRENGTHS[0], STRENGTHS[-1]))
    standard = np.abs(good.weight * few[0].std(0)).max()
    gaps = [np.abs((head.weight - good.weight) * few[0].std(0)).max() / standard for head in (again, weak)]
    assert 3 * gaps[0] < gaps[1]


def test_a_feature_that_does_not_vary_has_no_say() -> None:
    features, labels = photos()
    features[:, 3] = 7
    assert not fit(features, labels, zeros(), STRENGTHS[4], softmax()).weight[:, 3].any()


def test_cross_validation_says_nothing_of_photos_that_it_has_seen() -> None:
    """With labels at random no head is better than chance, and the strongest penalty is the best."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(100, 60)).astype(np.float32), rng.integers(0, CLASSES, 100)
    folds = folds_of(labels, np.arange(100), 0)
    ticks: list[None] = []
    fitting = Fitting("softmax", (60,), np.ones(CLASSES, np.bool_))
    strength, logits = cross_validate(features, labels, zeros(size=60), folds, fitting, lambda: ticks.append(None))
    assert len(ticks) == len(STRENGTHS)
    assert strength == STRENGTHS[0]
    assert (logits.argmax(1) == labels).mean() < 0.4
    seen = fit(features, labels, zeros(size=60), STRENGTHS[-1], fitting)
    assert (seen.logits(features).argmax(1) == labels).mean() > 0.9


def test_the_strength_is_the_one_with_the_least_loss() -> None:
    features, labels = photos()
    folds = folds_of(labels, np.arange(len(labels)), 0)
    strength, logits = cross_validate(features, labels, zeros(), folds, softmax())
    fold_logits = np.zeros((len(STRENGTHS), *logits.shape))
    for fold in range(FOLDS):
        held = folds == fold
        for place, head in enumerate(path(features[~held], labels[~held], zeros(), softmax())):
            fold_logits[place, held] = head.logits(features[held])
    losses = [mean_loss(some, labels, "softmax") for some in fold_logits]
    assert strength == STRENGTHS[int(np.argmin(losses))]
    assert strength not in (STRENGTHS[0], STRENGTHS[-1])
    assert mean_loss(logits, labels, "softmax") == pytest.approx(min(losses))


def test_groups_lie_in_one_fold_and_classes_in_all() -> None:
    labels = np.repeat(np.arange(3), 30)
    groups = np.arange(90) // 3
    folds = folds_of(labels, groups, 0)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in range(30))
    assert all(len(np.unique(folds[labels == label])) == FOLDS for label in range(3))


def test_there_are_no_more_folds_than_the_smallest_class_has_different_photos() -> None:
    labels = np.array([0] * 12 + [1] * 6)
    groups = np.array([*range(12), 12, 12, 12, 13, 13, 13])
    folds = folds_of(labels, groups, 0)
    assert len(np.unique(folds)) == 2
    assert len(np.unique(folds[labels == 1])) == 2


def test_near_duplicates_are_those_that_look_alike_to_the_network_and_to_the_eye() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(6, 32)).astype(np.float32)
    embeddings[1] = embeddings[0] + 0.05 * embeddings[2]  # the same thing
    embeddings[4] = embeddings[3]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    small = rng.integers(0, 256, (6, 32, 32)).astype(np.uint8)
    small[1] = np.clip(small[0].astype(int) + 9, 0, 255)  # in other light
    small[5] = small[2]  # looks alike to the eye alone; 3 and 4 to the network alone
    names = list("abcdef")
    groups = groups_of(embeddings, small, names)
    assert groups[0] == groups[1]
    assert len(np.unique(groups)) == 5
    names[5] = "c"  # two boxes of one photo
    assert groups_of(embeddings, small, names)[5] == groups_of(embeddings, small, names)[2]
