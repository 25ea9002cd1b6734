import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_infer.training.losses import (
    LOSS_WEIGHTS,
    POSE_LOSSES,
    TRIPLET_MARGIN,
    Batch,
    attribute_loss,
    category_loss,
    fashionnet_losses,
    landmark_loss,
    triplet_loss,
    visibility_loss,
)

NAN = float("nan")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_landmarks_by_hand() -> None:
    true = torch.full((2, 8, 2), 0.5)
    predicted = true.clone()
    predicted[0, 0] += torch.tensor([0.3, 0.4])  # 0.25
    predicted[0, 1] += 1  # occluded
    predicted[1, 2, 0] += 0.1  # 0.01
    visibility = torch.full((2, 8), -1)
    visibility[0, 0] = visibility[1, 2] = visibility[1, 3] = 0
    visibility[0, 1] = 1
    assert landmark_loss(predicted, true, visibility).item() == pytest.approx((0.25 + 0.01) / 2)
    assert landmark_loss(predicted, true, visibility, "l1").item() == pytest.approx((0.7 + 0.1) / 2)


def test_what_is_not_visible_gets_no_gradient_even_where_its_label_is_no_number() -> None:
    predicted = random(1, 8, 2).requires_grad_()
    true = torch.full((1, 8, 2), 0.5)
    true[0, 1:] = 1e30
    visibility = torch.tensor([[0, 1, 2, -1, 1, 2, -1, 1]])
    landmark_loss(predicted, true, visibility).backward()
    assert predicted.grad is not None
    assert predicted.grad[0, 0].abs().sum() > 0
    assert (predicted.grad[0, 1:] == 0).all()


def test_visibility_by_hand() -> None:
    assert visibility_loss(torch.zeros(3, 8, 3), torch.zeros(3, 8).long()).item() == pytest.approx(math.log(3))
    sure = torch.tensor([0.0, 0.0, 50.0]).expand(1, 8, 3)
    absent = torch.full((1, 8), -1)
    assert visibility_loss(sure, absent).item() == pytest.approx(0, abs=1e-6), "an absent slot is to be truncated"
    assert visibility_loss(sure, torch.zeros(1, 8).long()).item() == pytest.approx(50)


def test_what_is_not_labelled_is_neither_visible_nor_truncated() -> None:
    """A set without landmarks must not teach that all are cut off."""
    logits = random(2, 8, 3).requires_grad_()
    nothing = torch.full((2, 8), -2)
    loss = visibility_loss(logits, nothing)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    assert landmark_loss(random(2, 8, 2), random(2, 8, 2, seed=1), nothing).item() == 0
    some = torch.tensor([[0, 2, -2, -2, -2, -2, -2, -2], [-2] * 8])
    assert visibility_loss(torch.zeros(2, 8, 3), some).item() == pytest.approx(math.log(3)), "the mean of the two"


def test_category_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [NAN, NAN]])
    loss = category_loss(logits[:2], torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert category_loss(logits[1:2].repeat(3, 1), torch.tensor([0, -1, -1])).item() == pytest.approx(math.log(2))


def test_a_batch_without_categories_costs_nothing() -> None:
    logits = random(3, 4).requires_grad_()
    loss = category_loss(logits, torch.tensor([-1, -1, -1]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_one_class_alone_costs_nothing() -> None:
    assert category_loss(random(5, 1), torch.zeros(5).long()).item() == 0


def test_attributes_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    labels = torch.tensor([[1, -1], [0, 1]], dtype=torch.int8)
    share = torch.tensor([0.25, 0.1])
    # one positive of a rare attribute, one negative and one positive of a rarer one, one unknown
    expected = (2 * 0.75 * math.log(2) + 2 * 0.1 * math.log(4) + 2 * 0.9 * math.log(2)) / 3
    assert attribute_loss(logits, labels, share).item() == pytest.approx(expected)


def test_attributes_that_are_half_positive_weigh_as_in_torch() -> None:
    logits, labels = random(6, 5), torch.where(random(6, 5, seed=1) > 0.5, 1, -1).to(torch.int8)
    expected = F.binary_cross_entropy_with_logits(logits, (labels > 0).float())
    torch.testing.assert_close(attribute_loss(logits, labels, torch.full((5,), 0.5)), expected)


def test_positives_and_negatives_of_an_attribute_weigh_the_same_in_the_whole_set() -> None:
    labels = torch.tensor([[1]] * 3 + [[-1]] * 17, dtype=torch.int8)
    logits = torch.zeros(20, 1).requires_grad_()
    attribute_loss(logits, labels, torch.tensor([3 / 20])).backward()
    assert logits.grad is not None
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-7)


def test_unknown_attributes_get_no_gradient() -> None:
    logits = random(2, 3).requires_grad_()
    labels = torch.tensor([[0, 1, -1], [0, 0, 0]], dtype=torch.int8)
    attribute_loss(logits, labels, torch.full((3,), 0.5)).backward()
    assert logits.grad is not None
    assert ((logits.grad != 0) == (labels != 0)).all()
    assert attribute_loss(logits[:, :1], labels[:, :1], torch.tensor([0.5])).item() == 0, "nothing is known"


def unit(*angles: float) -> Tensor:
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles])


def test_triplet_by_hand() -> None:
    embedding = unit(0.0, 0.2, 0.3)

    def distance(a: int, b: int) -> float:
        return float((embedding[a] - embedding[b]).norm())

    # both pictures of item 0 have picture 2 as their hardest negative
    pairs = [TRIPLET_MARGIN + distance(0, 1) - distance(0, 2), TRIPLET_MARGIN + distance(0, 1) - distance(1, 2)]
    assert triplet_loss(embedding, torch.tensor([0, 0, 5])).item() == pytest.approx(sum(pairs) / 2, abs=1e-6)


def test_triplet_agrees_with_torch_where_there_is_one_negative() -> None:
    embedding = F.normalize(random(3, 16))
    anchors, positives, negatives = embedding[[0, 1]], embedding[[1, 0]], embedding[[2, 2]]
    expected = F.triplet_margin_loss(anchors, positives, negatives, margin=TRIPLET_MARGIN)
    torch.testing.assert_close(triplet_loss(embedding, torch.tensor([4, 4, 9])), expected, atol=1e-5, rtol=0)


def test_triplet_takes_the_hardest_negative() -> None:
    embedding = unit(0.0, 0.1, 3.0, 0.2)
    far_only = triplet_loss(embedding[:3], torch.tensor([0, 0, 1]))
    assert far_only.item() == 0
    assert triplet_loss(embedding, torch.tensor([0, 0, 1, 2])).item() > 0.2


@pytest.mark.parametrize("items", [[-1, -1, -1, -1], [0, 1, 2, 3], [0, 0, 0, 0], [0, 0, -1, -1]])
def test_without_pairs_or_negatives_there_is_no_triplet(items: list[int]) -> None:
    embedding = F.normalize(random(4, 8)).requires_grad_()
    loss = triplet_loss(embedding, torch.tensor(items))
    loss.backward()
    assert loss.item() == 0
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


def test_equal_embeddings_have_a_finite_gradient() -> None:
    embedding = torch.ones(4, 8).requires_grad_()
    loss = triplet_loss(F.normalize(embedding), torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(TRIPLET_MARGIN)
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()


@pytest.mark.parametrize(("stage", "pose", "others"), [(None, 1, 1), (1, 5, 1), (2, 1, 5)])
def test_each_stage_has_its_main_losses(stage: int | None, pose: float, others: float) -> None:
    count = 4
    outputs = {
        "category": random(count, 3, seed=1),
        "attributes": random(count, 6, seed=2),
        "landmarks": random(count, 8, 2, seed=3),
        "visibility": random(count, 8, 3, seed=4),
        "embedding": F.normalize(random(count, 16, seed=5)),
    }
    batch = Batch(
        images=torch.zeros(count, 32, 32, 3, dtype=torch.uint8),
        landmarks=random(count, 8, 2, seed=6),
        visibility=torch.zeros(count, 8).long(),
        categories=torch.tensor([0, 1, 2, -1]),
        attributes=torch.ones(count, 6, dtype=torch.int8),
        items=torch.tensor([0, 0, 1, 1]),
        rows=torch.arange(count),
    )
    share = torch.full((6,), 0.3)
    plain = {
        "landmarks": landmark_loss(outputs["landmarks"], batch.landmarks, batch.visibility),
        "visibility": visibility_loss(outputs["visibility"], batch.visibility),
        "category": category_loss(outputs["category"], batch.categories),
        "attributes": attribute_loss(outputs["attributes"], batch.attributes, share),
        "triplet": triplet_loss(outputs["embedding"], batch.items),
    }
    losses = fashionnet_losses(outputs, batch, share, stage)
    assert losses.keys() == plain.keys() == LOSS_WEIGHTS.keys()
    for name, loss in losses.items():
        weight = LOSS_WEIGHTS[name] * (pose if name in POSE_LOSSES else others)
        assert loss.item() == pytest.approx(weight * plain[name].item())
        assert loss.item() > 0
