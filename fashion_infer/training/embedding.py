"""The embedding layer, fitted in seconds on the features that a trained network computes.

Two losses are added. Strongly augmented views of a photo must be close to each other (InfoNCE; van den Oord et al.,
2018). Photos of one category, and of one category with the same attributes, must be closer than other photos
(supervised contrastive loss; Khosla et al., NeurIPS 2020). A linear layer is enough: the spatial means of the
backbone's stages still hold the details that distinguish photos of one category.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fashion_infer.training.model import StandardisedLinear

# Features that vary less are left out: they carry no information, and 1 / deviation could exceed float16's range.
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class EmbeddingConfig:
    """Settings of the fit.

    Attributes:
        steps: Number of AdamW steps.
        pairs: Photos per step, each with two of its views.
        learning_rate: Initial learning rate; it falls to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
        dropout: Share of features set to 0 in a step, in [0, 1).
        photo_temperature: Temperature of the loss between the views of a photo.
        label_temperature: Temperature of the loss between photos with the same label.
        label_weight: Weight of the label loss; the photo loss has weight 1.
        seed: Random seed.
    """

    steps: int = 200
    pairs: int = 192
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1
    photo_temperature: float = 0.07
    label_temperature: float = 0.1
    label_weight: float = 1.0
    seed: int = 0


def fit_embedding(
    head: StandardisedLinear, features: Tensor, labels: NDArray[np.int64], config: EmbeddingConfig
) -> StandardisedLinear:
    """Fit an embedding layer from scratch, in place.

    Args:
        head: The network's embedding layer, `FashionNet.embedding`.
        features: float32 [V, N, F], the inputs of `FashionNet.embedding` for V views of each of N photos, V >= 2.
        labels: int64 [L, N], L kinds of labels. Photos with the same number in a row belong together; -1 is no label.
        config: The settings.

    Returns:
        `head`, in evaluation mode.

    Raises:
        ValueError: There are fewer than two views, or fewer photos than `config.pairs`.
    """
    views, photos, _ = features.shape
    if views < 2 or photos < config.pairs:
        raise ValueError(f"an embedding is fitted on two views or more of at least {config.pairs} photos")
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    head.linear.reset_parameters()
    head.mean.copy_(features.mean((0, 1)))
    deviations = features.std((0, 1))
    head.scale.copy_(torch.where(deviations > LEAST_DEVIATION, 1 / deviations, 0))
    optimizer = torch.optim.AdamW(head.linear.parameters(), weight_decay=config.weight_decay)
    numbers = torch.from_numpy(labels)
    for step in range(config.steps):
        rows = rng.choice(photos, config.pairs, replace=False)
        pair = np.stack([rng.permutation(views)[:2] for _ in rows])
        picked = torch.cat([features[pair[:, 0], rows], features[pair[:, 1], rows]])
        embeddings = F.normalize(head(F.dropout(picked, config.dropout)), dim=1)
        loss = photo_loss(embeddings, config.photo_temperature)
        for kind in numbers:
            loss = loss + config.label_weight / len(numbers) * label_loss(
                embeddings, kind[rows].repeat(2), config.label_temperature
            )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 + np.cos(np.pi * step / config.steps)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def photo_loss(embeddings: Tensor, temperature: float) -> Tensor:
    """Compute the InfoNCE loss in both directions.

    Args:
        embeddings: [2N, D] of unit length; rows i and i + N are two views of one photo. Each must be closest to the
            other among the other half's N rows.
        temperature: Temperature of the softmax over the cosines.
    """
    first, second = embeddings.chunk(2)
    logits = first @ second.T / temperature
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def label_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute the supervised contrastive loss: the mean of -log p over all pairs of rows with the same label.

    p is the softmax over the cosines of a row with all other rows. The mean is taken first over the partners of a
    row, then over the rows.

    Args:
        embeddings: [N, D] of unit length.
        labels: [N]; rows labelled -1 have no partner, but count among the other rows.
        temperature: Temperature of the softmax over the cosines.
    """
    itself = torch.eye(len(labels), dtype=torch.bool)
    log_shares = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    same = (labels[:, None] == labels) & ~itself & (labels >= 0)
    partners = same.sum(1)
    losses = -torch.where(same, log_shares, 0).sum(1) / partners.clamp(min=1)
    return losses[partners > 0].sum() / (partners > 0).sum().clamp(min=1)
