import json
from dataclasses import replace

import numpy as np
import pytest

from fashion_infer.evaluation.measures import landmark_error_box
from fashion_infer.evaluation.protocols import PUBLISHED, Evaluation, Labels, Retrieval, evaluate
from fashion_infer.evaluation.retrieval import RETRIEVAL_KS

NAN = float("nan")


def points(x: float = 50, y: float = 50, count: int = 1) -> np.ndarray:
    return np.tile(np.array([x, y], np.float32), (count, 8, 1))


def visibility(*slots: int) -> np.ndarray:
    codes = np.full((1, 8), -1, np.int8)
    codes[0, list(slots)] = 0
    return codes


# each image has one of four textures and one of three sleeves
CHOICES = np.array([[1, -1, -1, -1, 1, -1, -1], [-1, 1, -1, -1, -1, 1, -1], [-1, -1, 1, -1, -1, -1, 1]], np.int8)
LABELS = Labels(
    categories=np.array([0, 1, -1]),
    attributes=CHOICES,
    attribute_groups=("texture",) * 4 + ("sleeve",) * 3,
    landmarks=points(count=3),
    visibility=np.concatenate([visibility(0, 1), visibility(0), visibility()]),
    image_sizes=np.full((3, 2), 100.0),
    box_sizes=np.full((3, 2), 50.0),
    items=np.array([5, 5, 6]),
    queries=np.array([True, False, False]),
    gallery=np.array([False, True, True]),
    kinds=np.array(["Dress", "Dress", "Tee"]),
)
NOTHING = Labels(
    categories=np.full(3, -1),
    attributes=np.zeros((3, 0), np.int8),
    attribute_groups=(),
    landmarks=np.zeros((3, 8, 2)),
    visibility=np.full((3, 8), -2),
    image_sizes=np.full((3, 2), 100.0),
    box_sizes=np.full((3, 2), 50.0),
    items=np.full(3, -1),
    queries=np.array([True, False, False]),
    gallery=np.array([False, True, True]),
    kinds=np.array(["", "", ""]),
)
OUTPUTS = {
    "category": np.eye(6, dtype=np.float32)[:3],
    "attributes": np.where(CHOICES == 1, np.float32(0.9), np.float32(0.1)),
    "embedding": np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32),
}


def test_a_perfect_network_is_perfect_in_everything() -> None:
    result = evaluate(OUTPUTS, LABELS, landmarks=LABELS.landmarks)
    assert result.category == {1: 1, 3: 1, 5: 1}
    assert result.attributes == {"texture": {3: 1}, "all": {3: 1, 5: 1}}, "three of three sleeves would say nothing"
    assert result.attribute_choices == {"texture": 1, "sleeve": 1}
    assert result.landmarks_box is not None
    assert result.landmarks_image is not None
    assert result.landmarks_box.mean == result.landmarks_image.mean == 0
    assert result.pdl_box is not None
    assert result.pdl_pixels is not None
    assert result.pdl_box.tolist() == result.pdl_pixels.tolist() == [1] * 101
    assert result.retrieval is not None
    assert result.retrieval.to_dict() == {"retrieval_hit1": 1, "retrieval_map": 1}


def test_a_k_that_covers_everything_is_left_out() -> None:
    outputs = OUTPUTS | {"category": OUTPUTS["category"][:, :3]}
    metrics = evaluate(outputs, LABELS, landmarks=LABELS.landmarks).to_dict()
    assert [name for name in metrics if name.startswith("category")] == ["category_top1"]
    assert [name for name in metrics if name.endswith("_sleeve") and name.startswith("attribute")] == [
        "attribute_top1_sleeve"
    ]
    outputs = OUTPUTS | {"category": np.ones((3, 1))}
    metrics = evaluate(outputs, replace(LABELS, categories=np.array([0, 0, -1])), landmarks=LABELS.landmarks).to_dict()
    assert metrics["category_top1"] == 1, "a network of one category has one number"


def test_landmarks_are_those_given_not_those_of_the_crop() -> None:
    outputs = OUTPUTS | {"landmarks": points(0.9, 0.9, count=3)}
    metrics = evaluate(outputs, LABELS, landmarks=points(50, 60, count=3)).to_dict()
    assert metrics["landmark_error_image"] == pytest.approx(0.1)
    assert metrics["landmark_error_box"] == pytest.approx(0.2)
    assert metrics["pdl_35_pixels"] == 1, "10 pixels"
    assert metrics["pdl_35_box"] == 0, "102 of 512"


def test_images_that_are_neither_query_nor_gallery_are_not_searched() -> None:
    outputs = OUTPUTS | {"embedding": np.array([[1, 0], [0.8, 0.6], [1, 0]], np.float32)}  # the third is nearer
    for gallery, hit in ((LABELS.gallery, 0), (np.array([False, True, False]), 1)):
        result = evaluate(outputs, replace(LABELS, gallery=gallery), landmarks=LABELS.landmarks)
        assert result.retrieval is not None
        assert result.retrieval.ranks[0].tolist() == [2 - hit]


@pytest.mark.parametrize(
    ("field", "keeps"),
    [
        ("categories", {"category"}),
        ("attributes", {"attributes", "attribute_choices"}),
        ("visibility", {"landmarks_image", "landmarks_box", "pdl_box", "pdl_pixels"}),
        ("items", {"retrieval"}),
    ],
)
def test_only_what_has_labels_is_evaluated(field: str, keeps: set[str]) -> None:
    fields = {field} | ({"attribute_groups"} if field == "attributes" else set())
    labels = replace(NOTHING, **{name: getattr(LABELS, name) for name in fields})
    outputs = {"items": ["embedding"], "categories": ["category"], "attributes": ["attributes"]}.get(field, [])
    result = evaluate({name: OUTPUTS[name] for name in outputs}, labels, landmarks=points(count=3))
    assert {name for name, value in vars(result).items() if value is not None} == keeps


def test_nothing_to_evaluate() -> None:
    result = evaluate({}, NOTHING, landmarks=points(count=3))
    assert set(vars(result).values()) == {None}
    assert result.to_dict() == {}


def test_to_dict_is_json_without_nan() -> None:
    result = evaluate(OUTPUTS, LABELS, landmarks=points(count=3))
    metrics = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert metrics == result.to_dict()
    assert metrics["category_top1"] == 1
    assert metrics["attribute_recall3_texture"] == 1
    assert metrics["landmark_error_box_left_collar"] == metrics["landmark_error_image_left_collar"] == 0
    assert metrics["landmark_error_box_right_hem"] is None
    assert metrics["landmark_count_left_collar"] == 2
    assert metrics["landmark_count_right_hem"] == 0
    for unit in ("box", "pixels"):
        assert metrics[f"pdl_35_{unit}"] == metrics[f"pdl_curve_{unit}"][35] == 1
        assert len(metrics[f"pdl_curve_{unit}"]) == 101
    assert metrics["retrieval_hit1"] == 1


def test_to_dict_turns_a_group_without_positives_into_none() -> None:
    assert Evaluation(attributes={"shape": {3: NAN}}).to_dict() == {"attribute_recall3_shape": None}


def test_retrieval_is_broken_down_by_kind_and_follows_from_the_ranks() -> None:
    ranks = [np.array(own) for own in ([1, 4], [2], [], [12])]
    retrieval = Retrieval(np.arange(4), np.array(["Dress", "Tee", "Tee", "Dress"]), ranks, gallery_size=15)
    metrics = retrieval.to_dict()
    assert metrics["retrieval_hit1"] == 1 / 4
    assert metrics["retrieval_hit5"] == metrics["retrieval_hit10"] == 2 / 4
    assert "retrieval_hit20" not in metrics, "there are 15"
    assert metrics["retrieval_map"] == pytest.approx(((1 + 2 / 4) / 2 + 1 / 2 + 0 + 1 / 12) / 4)
    assert metrics["retrieval_by_kind"] == {
        "Dress": {"queries": 2, "hit1": 0.5, "hit5": 0.5, "hit10": 0.5, "map": pytest.approx((0.75 + 1 / 12) / 2)},
        "Tee": {"queries": 2, "hit1": 0, "hit5": 0.5, "hit10": 0.5, "map": 0.25},
    }
    alike = replace(retrieval, kinds=np.array(["Dress"] * 4))
    assert "retrieval_by_kind" not in alike.to_dict()


def test_published_numbers_stand_beside_ours() -> None:
    groups = ("texture", "fabric", "shape", "part", "style")
    error = landmark_error_box(points(), points(), visibility(0), np.ones((1, 2)))
    ours = Evaluation(
        category=dict.fromkeys((1, 3, 5), 0.5),
        attributes={group: dict.fromkeys((3, 5), 0.5) for group in (*groups, "all")},
        landmarks_box=error,
        landmarks_image=error,
        retrieval=Retrieval(np.arange(1), np.array([""]), [np.array([1])], gallery_size=100),
    ).to_dict()
    assert {f"retrieval_hit{k}" for k in RETRIEVAL_KS} < set(ours)
    assert set(PUBLISHED) == {"category", "landmarks", "in_shop", "consumer_to_shop"}
    for row in PUBLISHED.values():
        assert set(row) <= set(ours)
        assert "landmark_error_image" not in row, "what is published was divided by the box"
        assert all(0 < value < 1 for value in row.values())
    assert PUBLISHED["category"]["category_top3"] == 0.8258
    assert PUBLISHED["category"]["attribute_recall5_all"] == 0.5461
    assert PUBLISHED["category"]["landmark_error_box"] == 0.0872
