"""The embedding, fitted on features that a finished network makes: seconds, where the trunk takes hours.

A photo and strongly changed views of it must be near each other (InfoNCE; van den Oord et al., 2018), and photos of one
category, and of one category with the same attributes, nearer than others (supervised contrastive loss; Khosla et al.,
NeurIPS 2020). The trunk still tells photos apart, so that a linear function of its standardised means finds them again
and has both: what a category head throws away need not be learnt anew.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fashion_infer.training.model import StandardisedLinear

LEAST_DEVIATION = 1e-3  # a feature that varies less is left out: it says nothing, and float16 must hold its scale


@dataclass(frozen=True)
class EmbeddingConfig:
    """Settings of the fit.

    Attributes:
        steps: of AdamW.
        pairs: photos a step, each with two of its views.
        learning_rate: the highest; it falls as a cosine.
        weight_decay: of AdamW.
        dropout: of the features.
        photo_temperature: of the loss between the views of a photo.
        label_temperature: of the loss between photos of the same labels.
        label_weight: of that loss beside the first.
        seed: of everything random.
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
    """Fit an embedding head from scratch; what it is given is changed and returned, in evaluation mode.

    Args:
        head: of the network, `FashionNet.embedding`.
        features: float32 [V, N, F], what `FashionNet.embedding` is given for each of V views of N photos, V >= 2.
        labels: [L, N] numbers: photos with the same number in a row of it belong together; -1 with no other.
        config: the settings.

    Raises:
        ValueError: there are fewer than two views, or fewer photos than pairs.
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
    """InfoNCE both ways: of rows i and i + N of [2N, D], two views of one photo, each must choose the other.

    The other N - 1 photos' other views are the wrong choices.
    """
    first, second = embeddings.chunk(2)
    logits = first @ second.T / temperature
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def label_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss: the mean over rows of -log p of a row of the same label, out of all others.

    Args:
        embeddings: [N, D] of unit length.
        labels: [N]; rows of -1 have no partner, but are among the others.
        temperature: of the softmax over the cosines.
    """
    itself = torch.eye(len(labels), dtype=torch.bool)
    log_shares = (embeddings @ embeddings.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    same = (labels[:, None] == labels) & ~itself & (labels >= 0)
    partners = same.sum(1)
    losses = -torch.where(same, log_shares, 0).sum(1) / partners.clamp(min=1)
    return losses[partners > 0].sum() / (partners > 0).sum().clamp(min=1)
