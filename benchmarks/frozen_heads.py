"""Heads on the cached features of a frozen trunk: fitted on some photos, measured on others; for `frozen_trunk.py`."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from cached_views import from_stride_8, plain_views, round_of_views
from numpy.typing import NDArray
from photo_embedding import belonging, found_again
from torch import Tensor, nn

from fashion_infer.data.deepfashion import FashionData
from fashion_infer.evaluation.measures import attribute_recall, category_accuracy, landmark_error_box
from fashion_infer.evaluation.retrieval import neighbour_agreement
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.embedding import EmbeddingConfig, fit_embedding
from fashion_infer.training.landmark_pool import landmark_pool
from fashion_infer.training.losses import LOSS_WEIGHTS, attribute_loss, category_loss, landmark_loss, visibility_loss
from fashion_infer.training.model import FashionNet, StandardisedLinear
from fashion_infer.training.trainer import learning_rate_at

VIEWS = 3  # of each photo: the garment's box as it is, and two changed views
STEPS, BATCH, RATE = 150, 64, 2e-3
EMBEDDING = EmbeddingConfig()
Ints = NDArray[np.int64]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Cached:
    """A set, and the frozen trunk's outputs for it; row v * N + n is view v of photo n of N.

    Attributes:
        network: The network whose trunk is used; new heads have its architecture.
        data: The set of N photos.
        groups: int64 [N], number of each photo's sender or series.
        maps: float16 [V * N, C, S / 8, S / 8], outputs of the stage of stride 8.
        deep: float16 [V * N, D, S / 32, S / 32], outputs of the last stage.
        landmarks: float32 [V * N, 8, 2] as (x, y), in [0, 1] inside the view.
        visibility: int64 [V * N, 8], coded as in `losses.Batch`.
    """

    network: FashionNet
    data: FashionData
    groups: Ints
    maps: Tensor
    deep: Tensor
    landmarks: Tensor
    visibility: Tensor

    def batches(self) -> tuple[Tensor, ...]:
        """Return the numbers of all rows, in batches."""
        return torch.arange(len(self.maps)).split(BATCH)


@dataclass(frozen=True)
class Fold:
    """The photos that heads are fitted on and those that they are measured on, and the seed of the fit."""

    fitted: Ints
    held_out: Ints
    seed: int


@torch.inference_mode()
def cache(network: FashionNet, data: FashionData, groups: Ints) -> Cached:
    """Run the trunk over every photo, cut out by its box, and over the changed views of it."""
    rows = np.arange(len(data))
    with TemporaryDirectory() as folder:
        views = [plain_views(Path(folder) / "plain.npz", network, data)]
        views += [round_of_views(Path(folder), number, network, data, rows) for number in range(VIEWS - 1)]
        maps = torch.from_numpy(np.concatenate([view.features for view in views]))
    deep = torch.cat([from_stride_8(network, part.float()).whole.half() for part in maps.split(BATCH)])
    landmarks = torch.from_numpy(np.concatenate([view.landmarks for view in views]))
    visibility = torch.from_numpy(np.concatenate([view.visibility for view in views]).astype(np.int64))
    return Cached(network, data, groups, maps, deep, landmarks, visibility)


# ------------------------------------------------------------------------------------------------------------ landmarks


def fit_pose(cached: Cached, fold: Fold) -> nn.Module:
    """Fit a copy of the network's pose head."""
    pose: nn.Module = copy.deepcopy(cached.network.pose).train()

    def loss(rows: Tensor) -> Tensor:
        landmarks, visibility = run_pose(pose, cached, rows)
        places = landmark_loss(landmarks, cached.landmarks[rows], cached.visibility[rows], "l1")
        visible = visibility_loss(visibility, cached.visibility[rows])
        return LOSS_WEIGHTS["landmarks"] * places + LOSS_WEIGHTS["visibility"] * visible

    descend(pose, loss, fold, len(cached.data))
    return pose.eval()


def run_pose(pose: nn.Module, cached: Cached, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Predict landmarks, [B, 8, 2], and visibility logits, [B, 8, 3], of some rows."""
    deep = cached.deep[rows].float()
    landmarks, visibility = pose(cached.maps[rows].float(), deep.mean((2, 3)), deep)
    return landmarks, visibility


@torch.inference_mode()
def points_of(pose: nn.Module, cached: Cached) -> tuple[Tensor, Tensor]:
    """Predict the landmarks of all rows, [V * N, 8, 2], and their gates, 1 where visible and else 0, [V * N, 8]."""
    parts = [run_pose(pose, cached, rows) for rows in cached.batches()]
    landmarks, visibility = (torch.cat(part) for part in zip(*parts, strict=True))
    return landmarks, (visibility.softmax(-1)[..., 0] > 0.5).float()  # as in FashionNet


def measure_pose(landmarks: Tensor, gates: Tensor, cached: Cached, fold: Fold) -> Metrics:
    """Compute the landmark error in shares of the box, and the share of gates that are as labelled."""
    rows = fold.held_out
    predicted, true, visibility = (t[rows].numpy() for t in (landmarks, cached.landmarks, cached.visibility))
    error = landmark_error_box(predicted, true, visibility, np.ones((len(rows), 2)))  # in shares of the box already
    gates_right = (gates[rows].numpy() == (visibility == 0)).mean()
    return {"landmark_error_of_box": error.mean, "gates_right": float(gates_right)}


@torch.inference_mode()
def pool(cached: Cached, points: Tensor, gates: Tensor) -> Tensor:
    """Pool the features of all rows around points, [V * N, 8, 2], with gates, [V * N, 8]: float16 [V * N, F]."""
    sizes = cached.network.arch.pooled_size, cached.network.arch.bin_size
    parts = [landmark_pool(cached.maps[r].float(), points[r], gates[r], *sizes) for r in cached.batches()]
    return torch.cat([part.flatten(1).half() for part in parts])


# ----------------------------------------------------------------------------------- categories, attributes, embedding


def measure_heads(cached: Cached, fold: Fold, pooled: Tensor | None) -> Metrics:
    """Fit heads of categories, attributes and the embedding, and measure them.

    Args:
        cached: The trunk's outputs.
        fold: The photos to fit the heads on, and those to measure them on.
        pooled: Result of `pool`; None for heads without a local branch.
    """
    data, rows = cached.data, fold.held_out
    heads = fit_heads(cached, fold, pooled)
    with torch.inference_mode():
        fused = torch.cat([fuse(heads, cached, batch, pooled) for batch in cached.batches()])
        category, attributes = (head(fused[rows]).numpy() for head in (heads.category, heads.attributes))
    top = category_accuracy(category, data.categories[rows], (1, 3))
    recall = attribute_recall(attributes, data.attributes[rows], data.attribute_groups, (3,))
    heads_metrics = {"category_top1": top[1], "category_top3": top[3], "attribute_recall3": recall["all"][3]}
    return heads_metrics | measure_embedding(cached, fold, fused.clone())


def fit_heads(cached: Cached, fold: Fold, pooled: Tensor | None) -> FashionNet:
    """Fit new heads of categories and attributes."""
    torch.manual_seed(fold.seed)
    pooling = "none" if pooled is None else "landmarks"
    heads = FashionNet(dataclasses.replace(cached.network.arch, pooling=pooling)).train()
    categories = torch.from_numpy(cached.data.categories.astype(np.int64))
    attributes = torch.from_numpy(cached.data.attributes)
    share = torch.full(attributes.shape[1:], 0.5)

    def loss(rows: Tensor) -> Tensor:
        fused, photos = fuse(heads, cached, rows, pooled), rows % len(categories)
        category = category_loss(heads.category(fused), categories[photos])
        attribute = attribute_loss(heads.attributes(fused), attributes[photos], share)
        return LOSS_WEIGHTS["category"] * category + LOSS_WEIGHTS["attributes"] * attribute

    descend(heads, loss, fold, len(categories))
    return heads.eval()


def fuse(heads: FashionNet, cached: Cached, rows: Tensor, pooled: Tensor | None) -> Tensor:
    """Compute the fused features of some rows, [B, F]."""
    parts = [heads.fc6_global(cached.deep[rows].float().mean((2, 3)))]
    if pooled is not None:
        parts.append(heads.fc6_local(pooled[rows].float()))
    fused: Tensor = heads.fc7_fusion(torch.cat(parts, 1))
    return fused


def measure_embedding(cached: Cached, fold: Fold, fused: Tensor) -> Metrics:
    """Fit a linear embedding on the fused features, [V * N, F], and search for the other photos among all photos."""
    views = fused.unflatten(0, (VIEWS, -1))
    head = StandardisedLinear(fused.shape[1], cached.network.arch.embedding_dim)
    labels = belonging(cached.data.select(fold.fitted))
    fit_embedding(head, views[:, fold.fitted], labels, dataclasses.replace(EMBEDDING, seed=fold.seed))
    with torch.inference_mode():
        whole, changed = (F.normalize(head(views[view]), dim=1).numpy() for view in (0, VIEWS - 1))
    hits = found_again(changed[fold.held_out], np.concatenate([whole[fold.held_out], whole[fold.fitted]]))
    queries = np.isin(np.arange(len(whole)), fold.held_out)
    same_category = neighbour_agreement(whole, cached.data.categories, cached.groups, queries)
    return {"views_recall1": float(hits.mean()), "neighbours_same_category": same_category}


def descend(module: nn.Module, loss_of: Callable[[Tensor], Tensor], fold: Fold, photos: int) -> None:
    """Train a module with AdamW on random views of the photos to fit it on.

    Args:
        module: The module; its state is changed.
        loss_of: Function from the rows of a batch to the loss.
        fold: The photos and the seed.
        photos: N, the number of photos of the set.
    """
    torch.manual_seed(fold.seed)
    rng, config = np.random.default_rng(fold.seed), TrainConfig(learning_rate=RATE)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=1e-2)
    for step in range(STEPS):
        rows = rng.choice(fold.fitted, BATCH, replace=False) + photos * rng.integers(0, VIEWS, BATCH)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, STEPS, config)
        optimizer.zero_grad()
        loss_of(torch.from_numpy(rows)).backward()
        optimizer.step()
