"""Training a network's later layers together with an already fitted head; kept only if accuracy improves.

Outputs that the photos have no labels for, such as the landmarks of class folders, are held near those of the original
network (Li and Hoiem, "Learning without Forgetting", 2016). The layers before stride 8 and the batch normalisation
stay as they are.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.training.batches import Loader
from fashion_infer.training.features import logits_of
from fashion_infer.training.linear_head import Head
from fashion_infer.training.losses import Batch, category_loss, landmark_loss, visibility_loss
from fashion_infer.training.model import FashionNet, TimmBackbone
from fashion_infer.training.own_labels import Photos
from fashion_infer.training.wide_heads import set_head

EPOCHS, BATCH, RATE, DECAY = 4, 16, 1e-4, 1e-2
# Weights of the losses that hold unlabelled outputs near those of the original network.
HOLD_WEIGHTS = {"landmarks": 100.0, "visibility": 1.0, "attributes": 1.0, "embedding": 100.0}

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Unfrozen:
    """The gain from training the later layers, measured by cross-validation.

    Attributes:
        before: Accuracy with only the head fitted, in [0, 1].
        after: Accuracy with the later layers trained, in [0, 1].
        kept: Whether the gain exceeds its standard error, so that the trained layers are kept.
    """

    before: float
    after: float
    kept: bool


def unfreeze(
    network: FashionNet,
    photos: Photos,
    folds: NDArray[np.int64],
    before: Floats,
    fit_on: Callable[[NDArray[np.int64]], Head],
    tick: Callable[[], object],
    seed: int,
) -> tuple[FashionNet, Unfrozen, Floats]:
    """Train a network's later layers for each fold and, if that improves the accuracy, on all photos.

    Args:
        network: The network, its head fitted on all photos; it is not changed.
        photos: The N photos to learn from.
        folds: int64 [N], the number of each photo's fold, see `linear_head.folds_of`.
        before: [N, C], cross-validated logits with only the head fitted.
        fit_on: Fits the head on the rows that it gets.
        tick: Called after each fold, to show progress.
        seed: Random seed of the batches and the augmentation.

    Returns:
        The network to use, which is `network` itself if nothing was gained; the gain; and the cross-validated logits
        [N, C] of that network.
    """
    after = np.zeros_like(before)
    for fold in np.unique(folds):
        held_out = np.flatnonzero(folds == fold)
        rows = np.flatnonzero(folds != fold)
        fold_network = copy.deepcopy(network)
        set_head(fold_network, "category", fit_on(rows))
        trained = train_later_layers(fold_network, photos.data.select(rows), seed)
        after[held_out] = logits_of(trained, photos.data.select(held_out))
        tick()
    hits = [(logits.argmax(1) == photos.labels).astype(np.float64) for logits in (before, after)]
    gain = hits[1] - hits[0]
    kept = bool(gain.mean() > gain.std() / math.sqrt(len(gain)))
    result = Unfrozen(float(hits[0].mean()), float(hits[1].mean()), kept)
    if not kept:
        return network, result, before
    return train_later_layers(network, photos.data, seed), result, after


def train_later_layers(network: FashionNet, data: FashionData, seed: int) -> FashionNet:
    """Train a copy of a network, from stride 8 on, with the categories and, if they are labelled, the landmarks.

    Args:
        network: The network, in evaluation mode; it is not changed.
        data: Photos labelled with the network's categories.
        seed: Random seed of the batches and the augmentation.

    Returns:
        The trained copy, in evaluation mode.
    """
    student = copy.deepcopy(network)
    backbone = student.backbone
    early: list[nn.Module] = backbone.early_layers() if isinstance(backbone, TimmBackbone) else [backbone.conv4]
    for layer in early:
        layer.requires_grad_(requires_grad=False)
    data = replace(data, items=np.full(len(data), -1, np.int32))
    has_landmarks = bool((data.visibility == 0).any())
    steps = EPOCHS * math.ceil(len(data) / BATCH)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in Loader(data, network.arch.image_size, seed, workers=0).batches(BATCH, 0, steps):
        with torch.no_grad():
            original = network(batch.images)
        loss = _loss(student(batch.images), original, batch, has_landmarks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.requires_grad_(requires_grad=True)


def _loss(outputs: dict[str, Tensor], original: dict[str, Tensor], batch: Batch, has_landmarks: bool) -> Tensor:
    loss = category_loss(outputs["category"], batch.categories)
    for name, weight in HOLD_WEIGHTS.items():
        if outputs[name].numel() and not (has_landmarks and name in ("landmarks", "visibility")):
            loss = loss + weight * F.mse_loss(outputs[name], original[name])
    if has_landmarks:
        loss = loss + 10 * landmark_loss(outputs["landmarks"], batch.landmarks, batch.visibility, "l1")
        loss = loss + visibility_loss(outputs["visibility"], batch.visibility)
    return loss
