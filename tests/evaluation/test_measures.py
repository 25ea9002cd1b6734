import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fashion_infer.evaluation import measures
from fashion_infer.evaluation.measures import (
    LandmarkError,
    attribute_accuracy,
    attribute_recall,
    category_accuracy,
    landmark_error_box,
    landmark_error_image,
    pdl_box,
    pdl_pixels,
)

NAN = float("nan")
VISIBLE, OCCLUDED, TRUNCATED, ABSENT, UNLABELLED = 0, 1, 2, -1, -2


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def points(x: float = 0.5, y: float = 0.5, count: int = 1) -> np.ndarray:
    return np.tile(np.array([x, y], np.float32), (count, 8, 1))


def visibility(*slots: int, code: int = VISIBLE) -> np.ndarray:
    codes = np.full((1, 8), ABSENT, np.int8)
    codes[0, list(slots)] = code
    return codes


# ------------------------------------------------------------------------------------------------- categories

PROBABILITIES = np.array([[0.5, 0.3, 0.1, 0.06, 0.04], [0.1, 0.2, 0.3, 0.15, 0.25]], np.float32)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 2], {1: 1.0, 2: 1.0, 3: 1.0}),
        ([1, 4], {1: 0.0, 2: 1.0, 3: 1.0}),
        ([2, 0], {1: 0.0, 2: 0.0, 3: 0.5}),
        ([-1, 1], {1: 0.0, 2: 0.0, 3: 1.0}),  # the unlabelled image is left out, not missed
    ],
)
def test_category_accuracy_by_hand(labels: list[int], expected: dict[int, float]) -> None:
    assert category_accuracy(PROBABILITIES, np.array(labels), ks=(1, 2, 3)) == expected


def test_category_accuracy_of_nothing_is_nan() -> None:
    assert np.isnan(list(category_accuracy(PROBABILITIES, np.array([-1, -1])).values())).all()
    assert np.isnan(list(category_accuracy(PROBABILITIES[:0], np.zeros(0, int)).values())).all()


def test_constant_scores_earn_nothing_until_k_covers_all() -> None:
    accuracy = category_accuracy(np.full((4, 5), 0.2, np.float32), np.array([0, 1, 2, 4]), ks=(1, 3, 4, 5, 6))
    assert accuracy == {1: 0, 3: 0, 4: 0, 5: 1, 6: 1}


@pytest.mark.parametrize("label", [0, 1, 3])
def test_a_tie_across_the_edge_of_the_top_k_is_a_miss(label: int) -> None:
    accuracy = category_accuracy(np.array([[0.3, 0.3, 0.1, 0.3]]), np.array([label]), ks=(2, 3))
    assert accuracy == {2: 0, 3: 1}


def test_a_nan_score_is_a_miss_and_ranks_before_the_others() -> None:
    scores = np.array([[NAN, 0.6, 0.4], [0.9, NAN, NAN], [NAN, NAN, NAN]])
    assert category_accuracy(scores[:1], np.array([0]), ks=(1, 3)) == {1: 0, 3: 0}
    assert category_accuracy(scores[:1], np.array([1]), ks=(1, 2)) == {1: 0, 2: 1}
    assert category_accuracy(np.array([[NAN, 0.5, 0.5]]), np.array([1]), ks=(2, 3)) == {2: 0, 3: 1}
    assert category_accuracy(scores[1:], np.array([0, 0]), ks=(1, 2, 3)) == {1: 0, 2: 0, 3: 0.5}


def test_a_class_that_the_network_lacks_is_a_miss_however_large_k_is() -> None:
    scores = np.array([[0.5, 0.5, -np.inf], [0.9, 0.1, -np.inf]])
    assert category_accuracy(scores, np.array([2, 2]), ks=(1, 3, 5)) == {1: 0, 3: 0, 5: 0}
    assert category_accuracy(scores, np.array([0, 1]), ks=(1, 2, 5)) == {1: 0, 2: 1, 5: 1}
    recall = attribute_recall(scores, np.array([[1, -1, 1], [-1, -1, 1]]), ["part"] * 3, ks=(3,))
    assert recall["part"] == {3: 1 / 3}


def test_category_accuracy_agrees_with_libraries() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    scores = random().random((500, 20), dtype=np.float32)
    labels = random(1).integers(0, 20, 500)
    for k, ours in category_accuracy(scores, labels, ks=(1, 3, 5)).items():
        assert ours == pytest.approx(metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(20)))
        theirs = torchmetrics.multiclass_accuracy(
            torch.from_numpy(scores), torch.from_numpy(labels), num_classes=20, top_k=k, average="micro"
        )
        assert ours == pytest.approx(theirs.item())


tied_scores = hnp.arrays(np.float32, (6, 4), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
labels_of_six = hnp.arrays(np.int16, 6, elements=st.integers(-1, 3))


@given(tied_scores, labels_of_six, st.permutations(range(6)), st.permutations(range(4)))
def test_category_accuracy_is_blind_to_order_and_grows_with_k(
    scores: np.ndarray, labels: np.ndarray, rows: list[int], classes: list[int]
) -> None:
    accuracy = category_accuracy(scores, labels, ks=(1, 2, 3, 4))
    moved = np.append(np.argsort(classes), -1)[labels].astype(np.int16)  # label c becomes the place of class c
    shuffled = category_accuracy(scores[:, classes][rows], moved[rows], ks=(1, 2, 3, 4))
    np.testing.assert_equal(shuffled, accuracy)
    shares = list(accuracy.values())
    if (labels >= 0).any():
        assert shares == sorted(shares)
        assert shares[-1] == 1


@given(labels_of_six)
def test_a_perfect_category_is_always_a_hit(labels: np.ndarray) -> None:
    accuracy = category_accuracy(np.eye(4)[labels], labels, ks=(1, 3))
    np.testing.assert_equal(accuracy, dict.fromkeys((1, 3), 1.0 if (labels >= 0).any() else NAN))


# ------------------------------------------------------------------------------------------------- attributes

GROUPS = ["texture", "texture", "texture", "shape", "shape"]
SCORES = np.array([[0.9, 0.8, 0.1, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5]], np.float32)
ATTRIBUTES = np.array([[1, -1, 1, 1, 0], [0, 1, -1, -1, 1]], np.int8)


def test_attribute_recall_by_hand() -> None:
    # Positives: texture 0 and 2 in the first image, 1 in the second; shape 3 in the first, 4 in the second.
    recall = attribute_recall(SCORES, ATTRIBUTES, GROUPS, ks=(1, 2, 3))
    assert list(recall) == ["texture", "shape", "all"]
    assert recall["texture"] == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3), 3: 1}
    assert recall["shape"] == {1: 1, 2: 1, 3: 1}
    # Ranked among all five: 0 and 4 are first in their images, 3 is third, 1 is fourth, 2 is last.
    assert recall["all"] == {1: 2 / 5, 2: 2 / 5, 3: 3 / 5}


def test_recall_counts_positives_not_images() -> None:
    labels = np.array([[1, 1, 1, -1], [-1, -1, -1, 1]], np.int8)
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]])
    assert attribute_recall(scores, labels, ["part"] * 4, ks=(3,))["all"] == {3: 3 / 4}  # the mean of images is 1/2


def test_unknown_attributes_take_places_but_are_no_positives() -> None:
    labels = np.array([[0, 1]], np.int8)
    assert attribute_recall(np.array([[0.9, 0.8]]), labels, ["a", "a"], ks=(1, 2))["a"] == {1: 0, 2: 1}


def test_groups_may_be_interleaved() -> None:
    recall = attribute_recall(SCORES[:, [0, 3, 1, 4, 2]], ATTRIBUTES[:, [0, 3, 1, 4, 2]], [*"tstst"], ks=(1, 2))
    assert recall["t"] == {1: pytest.approx(1 / 3), 2: pytest.approx(2 / 3)}
    assert recall["s"] == {1: 1, 2: 1}


def test_a_group_without_positives_is_nan() -> None:
    recall = attribute_recall(SCORES, np.where(np.arange(5) < 3, ATTRIBUTES, -1).astype(np.int8), GROUPS)
    assert np.isnan(list(recall["shape"].values())).all()
    assert recall["texture"] == {3: 1, 5: 1}


def test_no_attributes_at_all_is_nan() -> None:
    recall = attribute_recall(np.zeros((3, 0)), np.zeros((3, 0), np.int8), (), ks=(3,))
    np.testing.assert_equal(recall, {"all": {3: NAN}})


def test_constant_attributes_earn_nothing() -> None:
    labels = np.where(random().random((50, 12)) < 0.2, 1, -1).astype(np.int8)
    assert attribute_recall(np.full((50, 12), 0.5), labels, ["part"] * 12)["all"] == {3: 0, 5: 0}


def test_saturated_positives_fill_the_places() -> None:
    labels = np.array([[1, 1, 1, 1, -1, -1]], np.int8)
    assert attribute_recall((labels == 1) * 1.0, labels, ["a"] * 6, ks=(1, 3, 5))["all"] == {1: 1 / 4, 3: 3 / 4, 5: 1}


def test_attribute_recall_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    retrieval_recall = pytest.importorskip("torchmetrics.functional.retrieval").retrieval_recall
    scores = random().random((40, 30), dtype=np.float32)
    labels = random(1).choice(np.array([1, 0, -1], np.int8), (40, 30), p=[0.2, 0.3, 0.5])
    positive = labels == 1
    for k, ours in attribute_recall(scores, labels, ["part"] * 30)["all"].items():
        shares = [
            retrieval_recall(torch.from_numpy(s), torch.from_numpy(p), top_k=k).item()
            for s, p in zip(scores, positive, strict=True)
        ]
        # torchmetrics computes a share for each image; weighted by the positives, they give the share of all positives
        assert ours == pytest.approx(np.average(shares, weights=positive.sum(axis=1)))


def worst_recall(scores: np.ndarray, positive: np.ndarray, k: int) -> int:
    """Fewest hits over all orders of one row that respect its scores."""
    orders = itertools.permutations(range(len(scores)))
    return min(positive[list(o[:k])].sum() for o in orders if (np.diff(scores[list(o)]) <= 0).all())


@given(
    hnp.arrays(np.float16, (2, 5), elements=st.sampled_from([0.0, 0.5, 1.0])),
    hnp.arrays(np.int8, (2, 5), elements=st.sampled_from([1, 0, -1])),
    st.integers(1, 6),
)
def test_ties_fall_as_unluckily_as_they_can(scores: np.ndarray, labels: np.ndarray, k: int) -> None:
    positive = labels == 1
    hits = sum(worst_recall(s, p, k) for s, p in zip(scores, positive, strict=True))
    recall = attribute_recall(scores, labels, ["part"] * 5, ks=(k,))["all"][k]
    np.testing.assert_equal(recall, hits / positive.sum() if positive.any() else NAN)


@given(
    hnp.arrays(np.float32, (5, 6), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    hnp.arrays(np.int8, (5, 6), elements=st.sampled_from([1, 0, -1])),
    st.permutations(range(5)),
    st.permutations(range(6)),
)
def test_attribute_recall_is_blind_to_order_and_grows_with_k(
    scores: np.ndarray, labels: np.ndarray, rows: list[int], columns: list[int]
) -> None:
    groups = [*"abcabc"]
    recall = attribute_recall(scores, labels, groups, ks=(1, 2, 3, 6))
    shuffled = attribute_recall(
        scores[rows][:, columns], labels[rows][:, columns], [groups[c] for c in columns], ks=(1, 2, 3, 6)
    )
    np.testing.assert_equal(shuffled, recall)
    for shares in (list(by_k.values()) for by_k in recall.values()):
        assert np.isnan(shares).all() or (shares == sorted(shares) and shares[-1] == 1)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = random().random((50, 5))
    labels = random(2).choice(np.array([1, -1], np.int8), (50, 5))
    whole = attribute_recall(scores, labels, GROUPS)
    monkeypatch.setattr(measures, "CHUNK", 60)  # 12 rows
    assert attribute_recall(scores, labels, GROUPS) == whole


def test_memory_stays_bounded() -> None:
    scores = random().random((20_000, 500), dtype=np.float32)
    labels = np.where(scores < 0.01, 1, -1).astype(np.int8)
    tracemalloc.start()
    attribute_recall(scores, labels, ["part"] * 500, ks=(5,))  # a copy of all scores takes 40 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6


def test_attributes_of_no_group_count_among_all_only() -> None:
    recall = attribute_recall(SCORES, ATTRIBUTES, [""] * 5, ks=(1,))
    assert recall == {"all": {1: 2 / 5}}


# --------------------------------------------------------------------------------------- groups that exclude each other

SLEEVES = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [-1, -1, -1]], np.int8)  # the last one has none


def test_recall_of_three_among_three_says_nothing_and_accuracy_does() -> None:
    scores = random().random((4, 3))
    scores[[0, 1], [0, 1]] = 2
    scores[2, 0] = 2  # wrong
    assert attribute_recall(scores, SLEEVES, ["sleeve"] * 3, ks=(3,))["sleeve"] == {3: 1}
    assert attribute_accuracy(scores, SLEEVES, ["sleeve"] * 3) == {"sleeve": pytest.approx(2 / 3)}


def test_constant_choices_earn_nothing() -> None:
    assert attribute_accuracy(np.full((4, 3), 0.5), SLEEVES, ["sleeve"] * 3) == {"sleeve": 0}


@pytest.mark.parametrize(
    ("change", "why"), [((0, 1, 1), "two at once"), ((0, 1, 0), "another may be true as well")], ids=str
)
def test_a_group_is_exclusive_where_one_is_true_and_the_others_false(change: tuple[int, int, int], why: str) -> None:
    labels = SLEEVES.copy()
    labels[change[0], change[1]] = change[2]
    assert attribute_accuracy(random().random((4, 3)), labels, ["sleeve"] * 3) == {}, why


def test_choices_of_several_groups_agree_with_scikit_learn() -> None:
    accuracy_score = pytest.importorskip("sklearn.metrics").accuracy_score
    rng = random(2)
    groups = ["sleeve"] * 3 + ["fit"] * 4 + ["lone"] + ["texture"] * 2 + [""] * 2
    choices = {"sleeve": rng.integers(0, 3, 60), "fit": rng.integers(0, 4, 60)}
    labels = np.full((60, 12), -1, np.int8)
    labels[np.arange(60), choices["sleeve"]] = 1
    labels[np.arange(60), 3 + choices["fit"]] = 1
    labels[:, 7] = labels[:, 10] = 1
    labels[:5, 8:10] = 1  # two textures at once
    scores = rng.random((60, 12))
    assert attribute_accuracy(scores, labels, groups) == {
        "sleeve": pytest.approx(accuracy_score(choices["sleeve"], scores[:, :3].argmax(1))),
        "fit": pytest.approx(accuracy_score(choices["fit"], scores[:, 3:7].argmax(1))),
    }


# -------------------------------------------------------------------------------------------------- landmarks


UNIT = np.ones((1, 2))


def landmark_error(predicted: np.ndarray, true: np.ndarray, codes: np.ndarray) -> LandmarkError:
    """Measure in boxes of 1 x 1."""
    return landmark_error_box(predicted, true, codes, np.repeat(UNIT, len(predicted), 0))


def pdl_curve(predicted: np.ndarray, true: np.ndarray, codes: np.ndarray, distances: Any = range(101)) -> np.ndarray:
    """Measure in boxes of 1 x 1."""
    return pdl_box(predicted, true, codes, np.repeat(UNIT, len(predicted), 0), distances)


def test_one_point_in_each_unit() -> None:
    """The photo has 300 x 300 pixels, its box 160 x 194; the point is off by a tenth of the box in x and in y."""
    true, predicted = points(100, 100), points(116, 119.4)
    image, box, codes = np.array([[300, 300]]), np.array([[160, 194]]), visibility(0)
    assert landmark_error_image(predicted, true, codes, image).mean == pytest.approx(0.0838, abs=5e-5)
    assert landmark_error_box(predicted, true, codes, box).mean == pytest.approx(0.1414, abs=5e-5)
    assert pdl_box(predicted, true, codes, box, [72, 73]).tolist() == [0, 1], "0.1414 of 512 are 72.4 pixels"
    assert pdl_pixels(predicted, true, codes, [25, 26]).tolist() == [0, 1], "25.15 pixels of the photo"


def test_the_units_agree_with_a_plain_reckoning() -> None:
    rng = random(5)
    predicted, true = rng.uniform(0, 400, (2, 25, 8, 2))
    codes, sizes = rng.integers(-2, 3, (25, 8)), rng.uniform(50, 400, (25, 2))
    by_hand: list[list[float]] = [[] for _ in range(8)]
    flat: list[float] = []
    for image, (width, height) in enumerate(sizes.tolist()):
        for point in range(8):
            if codes[image, point] == VISIBLE:
                dx, dy = (predicted[image, point] - true[image, point]).tolist()
                by_hand[point].append(((dx / width) ** 2 + (dy / height) ** 2) ** 0.5)
                flat.append((dx**2 + dy**2) ** 0.5)
    means = [sum(errors) / len(errors) for errors in by_hand]
    for measure in (landmark_error_image, landmark_error_box):
        assert measure(predicted, true, codes, sizes).mean == pytest.approx(sum(means) / 8)
    stretched = [512 * error for errors in by_hand for error in errors]
    for limit in (35, 90):
        share = sum(error <= limit for error in stretched) / len(stretched)
        assert pdl_box(predicted, true, codes, sizes, [limit]) == pytest.approx(share)
        assert pdl_pixels(predicted, true, codes, [limit]) == pytest.approx(sum(e <= limit for e in flat) / len(flat))


def test_landmark_error_by_hand() -> None:
    predicted, true = points(count=3), points(count=3)
    predicted[0, 0] += [0.3, 0.4]  # distance 0.5
    predicted[1, 0] += [0.0, 0.1]
    predicted[0, 7] += [0.06, 0.08]
    codes = np.concatenate([visibility(0, 7), visibility(0), visibility(3)])
    error = landmark_error(predicted, true, codes)
    np.testing.assert_array_equal(error.counts, [2, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_allclose(error.per_landmark, [0.3, NAN, NAN, 0, NAN, NAN, NAN, 0.1], atol=1e-7)
    assert error.mean == pytest.approx(
        (0.3 + 0 + 0.1) / 3, abs=1e-7
    )  # the mean of the landmarks' means, not of the four points


@pytest.mark.parametrize("code", [OCCLUDED, TRUNCATED, ABSENT, UNLABELLED])
def test_only_visible_landmarks_count(code: int) -> None:
    predicted, true = points(0.9, 0.9), np.full((1, 8, 2), NAN, np.float32)
    true[0, 0] = 0.9
    codes = visibility(1, 2, code=code)
    codes[0, 0] = VISIBLE
    error = landmark_error(predicted, true, codes)
    assert error.mean == 0
    assert error.counts.sum() == 1
    assert pdl_curve(predicted, true, codes).tolist() == [1] * 101


def test_no_visible_landmark_is_nan() -> None:
    error = landmark_error(points(), points(), visibility())
    assert np.isnan(error.mean)
    assert np.isnan(error.per_landmark).all()
    assert np.isnan(pdl_curve(points(), points(), visibility())).all()
    assert np.isnan(pdl_curve(points(count=0), points(count=0), np.zeros((0, 8), np.int8), [35])).all()


def test_landmark_error_agrees_with_scikit_learn() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    predicted, true = random().random((2, 30, 8, 2))
    error = landmark_error(predicted, true, np.zeros((30, 8), np.int8))
    theirs = [pairwise.paired_euclidean_distances(predicted[:, p], true[:, p]).mean() for p in range(8)]
    np.testing.assert_allclose(error.per_landmark, theirs)


def test_float16_landmarks_are_measured_in_full_precision() -> None:
    predicted = points(0.75).astype(np.float16)
    assert landmark_error(predicted, points(0.7499).astype(np.float64), visibility(0)).mean == pytest.approx(
        0.0001, rel=1e-3
    )


def test_pdl_by_hand() -> None:
    true, predicted = points(), points()
    predicted[0, 0, 0] += 35 / 512  # exactly at the distance
    predicted[0, 1, 1] += 36 / 512
    predicted[0, 2] += [3 / 512, 4 / 512]  # 5 pixels
    assert pdl_curve(predicted, true, visibility(0, 1, 2, 3), [0, 4, 5, 35, 36, 1000]).tolist() == [
        0.25, 0.25, 0.5, 0.75, 1, 1,
    ]  # fmt: skip


def test_the_default_curve_has_a_point_a_pixel() -> None:
    predicted = points()
    predicted[0, 0, 0] += 35 / 512
    curve = pdl_curve(predicted, points(), visibility(0))
    assert curve.tolist() == [0] * 35 + [1] * 66
    assert pdl_curve(predicted, points(), visibility(0), [35]) == curve[35]


def test_a_nan_landmark_is_never_within_and_has_no_error() -> None:
    predicted = points(NAN)
    assert pdl_curve(predicted, points(), visibility(0), [0, 100, np.inf]).tolist()[:2] == [0, 0]
    assert np.isnan(landmark_error(predicted, points(), visibility(0)).mean)


coordinates = hnp.arrays(np.float32, (4, 8, 2), elements=st.floats(0, 1, width=32))
codes_of_four = hnp.arrays(np.int8, (4, 8), elements=st.sampled_from([0, 1, 2, -1]))


@given(coordinates, coordinates, codes_of_four, st.permutations(range(4)))
def test_landmark_measures_are_blind_to_order(
    predicted: np.ndarray, true: np.ndarray, codes: np.ndarray, rows: list[int]
) -> None:
    error, shuffled = landmark_error(predicted, true, codes), landmark_error(predicted[rows], true[rows], codes[rows])
    np.testing.assert_allclose(shuffled.per_landmark, error.per_landmark)
    np.testing.assert_array_equal(shuffled.counts, error.counts)
    curve = pdl_curve(predicted, true, codes)
    np.testing.assert_array_equal(pdl_curve(predicted[rows], true[rows], codes[rows]), curve)
    assert not (np.diff(curve) < 0).any()


@given(coordinates, codes_of_four)
def test_perfect_landmarks_have_no_error(true: np.ndarray, codes: np.ndarray) -> None:
    best = 0 if (codes == VISIBLE).any() else NAN
    np.testing.assert_equal(landmark_error(true, true, codes).mean, best)
    np.testing.assert_equal(pdl_curve(true, true, codes, [0]), np.array([1 - best]))


# ------------------------------------------------------------------------------------------------- bad input


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: category_accuracy(zeros(3, 5), zeros(2, dtype=int)),
            r"expected probabilities \[N, C\] and labels \[N\], got \(3, 5\), \(2,\)",
        ),
        (lambda: category_accuracy(zeros(3), zeros(3, dtype=int)), r"probabilities \[N, C\].* got \(3,\), \(3,\)"),
        (lambda: category_accuracy(zeros(2, 5), np.array([0, 5])), "expected labels from -1 to 4, got 0 to 5"),
        (lambda: category_accuracy(zeros(2, 5), np.array([0, -2])), "expected labels from -1 to 4, got -2 to 0"),
        (lambda: category_accuracy(zeros(2, 5), np.array([0, 1]), ks=(0,)), r"every k to be at least 1, got \[0\]"),
        (lambda: category_accuracy(zeros(2, 5), np.array([0, 1]), ks=()), r"every k to be at least 1, got \[\]"),
        (
            lambda: attribute_recall(zeros(3, 5), zeros(3, 4, dtype=np.int8), ["a"] * 5),
            r"expected scores \[N, A\], labels \[N, A\] and groups \[A\], got \(3, 5\), \(3, 4\), \(5,\)",
        ),
        (lambda: attribute_recall(zeros(3, 5), zeros(3, 5), ["a"] * 4), r"groups \[A\], got .*\(4,\)"),
        (lambda: attribute_recall(zeros(3, 1), zeros(3, 1), ["all"]), 'no group named "all"'),
        (lambda: attribute_recall(zeros(3, 1), zeros(3, 1), ["a"], ks=(3, -1)), r"at least 1, got \[3, -1\]"),
        (
            lambda: landmark_error_box(zeros(3, 7, 2), zeros(3, 7, 2), zeros(3, 7), zeros(3, 2)),
            r"expected predicted and true \[N, 8, 2\], visibility \[N, 8\] and sizes \[N, 2\], got \(3, 7, 2\), ",
        ),
        (
            lambda: landmark_error_image(zeros(3, 8, 2), zeros(2, 8, 2), zeros(3, 8), zeros(3, 2)),
            r"got \(3, 8, 2\), \(2, 8, 2\)",
        ),
        (lambda: pdl_box(zeros(3, 8, 2), zeros(3, 8, 2), zeros(8, 3), zeros(3, 2)), r"got .*\(8, 3\), \(3, 2\)"),
        (lambda: pdl_box(zeros(3, 8, 2), zeros(3, 8, 2), zeros(3, 8), zeros(2)), r"sizes \[N, 2\], got .*\(2,\)"),
        (lambda: pdl_pixels(zeros(3, 8, 2), zeros(3, 8, 2), zeros(8, 3)), r"visibility \[N, 8\].* got .*\(8, 3\)"),
        (lambda: attribute_accuracy(zeros(3, 2), zeros(3, 1), ["a"]), r"got \(3, 2\), \(3, 1\), \(1,\)"),
    ],
)
def test_bad_input_says_what_was_expected_and_what_came(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
