"""FashionNet's losses (Liu et al., CVPR 2016, section 4) and the weights of its two stages.

The paper names the terms; their weights and the triplet's margin are unpublished and are our choice.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_infer.data.fashion_data import ABSENT, UNLABELLED

TRIPLET_MARGIN = 0.3  # between unit-length embeddings, whose distances lie in [0, 2]
LOSS_WEIGHTS = {"landmarks": 10.0, "visibility": 1.0, "category": 1.0, "attributes": 20.0, "triplet": 1.0}
STAGE_WEIGHTS = {1: (5.0, 1.0), 2: (1.0, 5.0)}  # of the pose losses and of the others: stage 1 leads with the pose
POSE_LOSSES = ("landmarks", "visibility")
TRUNCATED = 2


@dataclass
class Batch:
    """What one training step sees.

    Attributes:
        images: uint8 [N, S, S, 3] RGB.
        landmarks: float32 [N, 8, 2] as (x, y) in [0, 1] of the image.
        visibility: int64 [N, 8]: 0 visible, 1 occluded, 2 truncated, -1 a slot this type of clothes does not have,
            -2 not labelled.
        categories: int64 [N], -1 where unlabelled.
        attributes: int8 [N, A]: 1, -1, or 0 where unknown.
        items: int64 [N], -1 where the picture belongs to no known item.
        rows: int64 [N], of the data set.
    """

    images: Tensor
    landmarks: Tensor
    visibility: Tensor
    categories: Tensor
    attributes: Tensor
    items: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})


def fashionnet_losses(
    outputs: dict[str, Tensor], batch: Batch, positive_share: Tensor, stage: int | None, landmark_norm: str = "l2"
) -> dict[str, Tensor]:
    """Every loss by name, weighted, so that their sum is the loss of the step.

    Args:
        outputs: of FashionNet.
        batch: the labels.
        positive_share: float32 [A], the share of positives of each attribute in the training set, in [0, 1].
        stage: 1 or 2 of the paper's two; None trains everything at once with equal weights.
        landmark_norm: see `landmark_loss`.
    """
    losses = {
        "landmarks": landmark_loss(outputs["landmarks"], batch.landmarks, batch.visibility, landmark_norm),
        "visibility": visibility_loss(outputs["visibility"], batch.visibility),
        "category": category_loss(outputs["category"], batch.categories),
        "attributes": attribute_loss(outputs["attributes"], batch.attributes, positive_share),
        "triplet": triplet_loss(outputs["embedding"], batch.items),
    }
    pose, others = STAGE_WEIGHTS[stage] if stage else (1.0, 1.0)
    return {n: v * LOSS_WEIGHTS[n] * (pose if n in POSE_LOSSES else others) for n, v in losses.items()}


def landmark_loss(predicted: Tensor, true: Tensor, visibility: Tensor, norm: str = "l2") -> Tensor:
    """Sum over the visible landmarks of their distance in the unit square, mean over the images.

    Args:
        predicted: [N, 8, 2].
        true: [N, 8, 2].
        visibility: [N, 8].
        norm: `l2` is the paper's, the squared distance; `l1` adds up |dx| + |dy|, which still pulls where little is
            left to pull: better for heat maps (Sun et al., ECCV 2018).
    """
    difference = predicted.float() - true
    distance = (difference.square() if norm == "l2" else difference.abs()).sum(2)
    return torch.where(visibility == 0, distance, 0).sum() / max(len(true), 1)


def visibility_loss(logits: Tensor, visibility: Tensor) -> Tensor:
    """Softmax cross-entropy; a slot that the clothes do not have is to be reported as truncated.

    Slots that are not labelled are left out; 0 where none is.
    """
    target = torch.where(visibility == ABSENT, TRUNCATED, visibility).flatten()
    losses = F.cross_entropy(logits.float().flatten(0, 1), target, ignore_index=UNLABELLED, reduction="sum")
    return losses / (target != UNLABELLED).sum().clamp(min=1)


def category_loss(logits: Tensor, categories: Tensor) -> Tensor:
    """Softmax cross-entropy over the labelled images, 0 where there are none."""
    losses = F.cross_entropy(logits.float(), categories, ignore_index=-1, reduction="sum")
    return losses / (categories >= 0).sum().clamp(min=1)


def attribute_loss(logits: Tensor, attributes: Tensor, positive_share: Tensor) -> Tensor:
    """Binary cross-entropy in which an attribute's positives and negatives weigh the same in the whole set.

    Positives are weighted by the share of negatives and the other way round, scaled by 2 so that an attribute that is
    half positive is weighted by 1; unknown labels are left out.
    """
    weights = 2 * torch.where(attributes > 0, 1 - positive_share, positive_share) * (attributes != 0)
    losses = F.binary_cross_entropy_with_logits(logits.float(), (attributes > 0).float(), reduction="none")
    return (losses * weights).sum() / (attributes != 0).sum().clamp(min=1)


def triplet_loss(embedding: Tensor, items: Tensor) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, hardest negative of the batch)), mean over all pairs."""
    distance = torch.cdist(embedding, embedding)
    known = items >= 0
    same = (items[:, None] == items) & known[:, None] & ~torch.eye(len(items), dtype=torch.bool, device=items.device)
    other = (items[:, None] != items) & known[:, None] & known
    hardest = torch.where(other, distance, torch.inf).amin(1, keepdim=True)
    losses = torch.where(same & hardest.isfinite(), F.relu(TRIPLET_MARGIN + distance - hardest), 0)
    return losses.sum() / same.sum().clamp(min=1)
