"""FashionNet's losses (Liu et al., CVPR 2016, section 4) and their weights in its two training stages.

The paper names the losses but not their weights or the margin of the triplet loss; those values are our choice.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fashion_infer.data.fashion_data import ABSENT, UNLABELLED

TRIPLET_MARGIN = 0.3  # between unit-length embeddings, whose distances lie in [0, 2]
LOSS_WEIGHTS = {"landmarks": 10.0, "visibility": 1.0, "category": 1.0, "attributes": 20.0, "triplet": 1.0}
STAGE_WEIGHTS = {1: (5.0, 1.0), 2: (1.0, 5.0)}  # (pose losses, others): stage 1 emphasises the pose
POSE_LOSSES = ("landmarks", "visibility")
TRUNCATED = 2


@dataclass
class Batch:
    """The images and labels of one training step.

    Attributes:
        images: uint8 [N, S, S, 3] RGB.
        landmarks: float32 [N, 8, 2] as (x, y), in [0, 1] inside the image.
        visibility: int64 [N, 8]: 0 visible, 1 occluded, 2 truncated, -1 a landmark that this type of clothes does not
            have, -2 not labelled.
        categories: int64 [N], -1 if unlabelled.
        attributes: int8 [N, A]: 1 yes, -1 no, 0 unknown.
        items: int64 [N], number of the item in the picture, -1 if unlabelled.
        rows: int64 [N], rows of the data set.
    """

    images: Tensor
    landmarks: Tensor
    visibility: Tensor
    categories: Tensor
    attributes: Tensor
    items: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return a copy of the batch on another device."""
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})


def fashionnet_losses(
    outputs: dict[str, Tensor], batch: Batch, positive_share: Tensor, stage: int | None, landmark_norm: str = "l2"
) -> dict[str, Tensor]:
    """Compute all losses by name, weighted so that their sum is the total loss of the step.

    Args:
        outputs: Outputs of `FashionNet.forward`.
        batch: The labels.
        positive_share: float32 [A], share of positive labels of each attribute in the training set, in [0, 1].
        stage: Training stage of the paper, 1 or 2; None trains everything at once, without the stages' weights.
        landmark_norm: Norm of the landmark loss, `l1` or `l2`, see `landmark_loss`.
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
    """Compute the sum over an image's visible landmarks of their distance to the labels, as a mean over the images.

    Args:
        predicted: [N, 8, 2] as (x, y) in shares of the image's side.
        true: [N, 8, 2], in the same units.
        visibility: int64 [N, 8], see `Batch`.
        norm: `l2` for the squared distance, as in the paper; `l1` for |dx| + |dy|, whose gradient does not vanish near
            the label, which suits heat maps better (Sun et al., ECCV 2018).
    """
    difference = predicted.float() - true
    distance = (difference.square() if norm == "l2" else difference.abs()).sum(2)
    return torch.where(visibility == 0, distance, 0).sum() / max(len(true), 1)


def visibility_loss(logits: Tensor, visibility: Tensor) -> Tensor:
    """Compute the softmax cross-entropy of the visibilities, as a mean over the labelled landmarks.

    A landmark that the clothes do not have must be predicted as truncated. The loss is 0 if nothing is labelled.
    """
    target = torch.where(visibility == ABSENT, TRUNCATED, visibility).flatten()
    losses = F.cross_entropy(logits.float().flatten(0, 1), target, ignore_index=UNLABELLED, reduction="sum")
    return losses / (target != UNLABELLED).sum().clamp(min=1)


def category_loss(logits: Tensor, categories: Tensor) -> Tensor:
    """Compute the softmax cross-entropy as a mean over the labelled images; 0 if there are none."""
    losses = F.cross_entropy(logits.float(), categories, ignore_index=-1, reduction="sum")
    return losses / (categories >= 0).sum().clamp(min=1)


def attribute_loss(logits: Tensor, attributes: Tensor, positive_share: Tensor) -> Tensor:
    """Compute a binary cross-entropy in which positive and negative labels have equal total weight over the whole set.

    Positives are weighted by twice the share of negatives, and negatives by twice the share of positives. The weight
    is thus 1 for an attribute that is half positive. Unknown labels are left out.
    """
    weights = 2 * torch.where(attributes > 0, 1 - positive_share, positive_share) * (attributes != 0)
    losses = F.binary_cross_entropy_with_logits(logits.float(), (attributes > 0).float(), reduction="none")
    return (losses * weights).sum() / (attributes != 0).sum().clamp(min=1)


def triplet_loss(embedding: Tensor, items: Tensor) -> Tensor:
    """Compute the triplet loss with the hardest negative of the batch, as a mean over all (anchor, positive) pairs.

    The loss of a pair is max(0, margin + d(anchor, positive) - d(anchor, hardest negative)).

    Args:
        embedding: [N, D] of unit length.
        items: int64 [N], item numbers; rows with -1 take no part.
    """
    distance = torch.cdist(embedding, embedding)
    has_item = items >= 0
    not_itself = ~torch.eye(len(items), dtype=torch.bool, device=items.device)
    same = (items[:, None] == items) & has_item[:, None] & not_itself
    other = (items[:, None] != items) & has_item[:, None] & has_item
    hardest = torch.where(other, distance, torch.inf).amin(1, keepdim=True)
    losses = torch.where(same & hardest.isfinite(), F.relu(TRIPLET_MARGIN + distance - hardest), 0)
    return losses.sum() / same.sum().clamp(min=1)
