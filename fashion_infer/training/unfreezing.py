"""The later layers trained on as well, beside a head that was fitted already, and kept only where that is worth it.

What the photos do not teach, such as landmarks of class folders, is held where the network had it (Li and Hoiem,
"Learning without Forgetting", 2016). The layers before stride 8 and all batch normalisation stay as they are.
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
HELD = {"landmarks": 100.0, "visibility": 1.0, "attributes": 1.0, "embedding": 100.0}  # weights of what is held

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Unfrozen:
    """What training the later layers brought, by cross-validation.

    Attributes:
        before: accuracy of the head alone, in [0, 1].
        after: with the later layers trained.
        kept: whether the gain is larger than its own standard error.
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
    """Train a network's later layers in every fold, and where that gains, on all photos.

    Args:
        network: with its head fitted on all photos.
        photos: to learn from.
        folds: [N], see `linear_head.folds_of`.
        before: [N, C], what the head alone said of photos that it was not fitted on.
        fit_on: fits the head on some rows.
        tick: is called after each fold.
        seed: of batches and augmentation.

    Returns:
        The network to go on with, `network` itself where nothing was gained; what came of it; and what that network
        said of photos that it was not fitted on, [N, C].
    """
    after = np.zeros_like(before)
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        rows = np.flatnonzero(folds != fold)
        started = copy.deepcopy(network)
        set_head(started, "category", fit_on(rows))
        trained = train_later_layers(started, photos.data.select(rows), seed)
        after[held] = logits_of(trained, photos.data.select(held))
        tick()
    hits = [(logits.argmax(1) == photos.labels).astype(np.float64) for logits in (before, after)]
    gain = hits[1] - hits[0]
    kept = bool(gain.mean() > gain.std() / math.sqrt(len(gain)))
    result = Unfrozen(float(hits[0].mean()), float(hits[1].mean()), kept)
    if not kept:
        return network, result, before
    return train_later_layers(network, photos.data, seed), result, after


def train_later_layers(network: FashionNet, data: FashionData, seed: int) -> FashionNet:
    """A copy of a network, its layers from stride 8 on trained on categories, and landmarks where they are labelled.

    Args:
        network: in evaluation mode; the copy is too.
        data: photos with the network's categories.
        seed: of batches and augmentation.
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
            held = network(batch.images)
        loss = _loss(student(batch.images), held, batch, has_landmarks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.requires_grad_(requires_grad=True)


def _loss(outputs: dict[str, Tensor], held: dict[str, Tensor], batch: Batch, has_landmarks: bool) -> Tensor:
    loss = category_loss(outputs["category"], batch.categories)
    for name, weight in HELD.items():
        if outputs[name].numel() and not (has_landmarks and name in ("landmarks", "visibility")):
            loss = loss + weight * F.mse_loss(outputs[name], held[name])
    if has_landmarks:
        loss = loss + 10 * landmark_loss(outputs["landmarks"], batch.landmarks, batch.visibility, "l1")
        loss = loss + visibility_loss(outputs["visibility"], batch.visibility)
    return loss
