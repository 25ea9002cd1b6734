"""The fit of the embedding, and its losses against a few lines of float64 each."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from fashion_infer.training.embedding import EmbeddingConfig, fit_embedding, label_loss, photo_loss
from fashion_infer.training.model import StandardisedLinear

QUICK = EmbeddingConfig(steps=150, pairs=32, learning_rate=3e-3, label_weight=3.0)


def unit(rows: int, seed: int = 0) -> Tensor:
    values = torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def test_photo_loss_is_the_mean_of_choosing_either_view_by_the_other() -> None:
    embeddings = unit(10)
    cosines = embeddings.double().numpy() @ embeddings.double().numpy().T / 0.07
    picks = []
    for i in range(5):
        for one, others in ((i, range(5, 10)), (i + 5, range(5))):
            right = cosines[one, (one + 5) % 10]
            picks.append(-right + np.log(sum(np.exp(cosines[one, j]) for j in others)))
    assert float(photo_loss(embeddings, 0.07)) == pytest.approx(np.mean(picks), rel=1e-5)


def test_label_loss_by_its_definition() -> None:
    embeddings, labels = unit(9, 1), [0, 1, 0, 2, 1, -1, 0, -1, 3]
    cosines = embeddings.double().numpy() @ embeddings.double().numpy().T / 0.1
    losses = []
    for i, label in enumerate(labels):
        partners = [j for j in range(9) if j != i and labels[j] == label and label >= 0]
        whole = np.log(sum(np.exp(cosines[i, j]) for j in range(9) if j != i))
        if partners:
            losses.append(np.mean([whole - cosines[i, j] for j in partners]))
    assert len(losses) == 5  # the three of label 0 and the two of label 1
    assert float(label_loss(embeddings, torch.tensor(labels), 0.1)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_rows_without_a_partner_cost_nothing() -> None:
    embeddings = unit(4).requires_grad_()
    loss = label_loss(embeddings, torch.tensor([-1, -1, 0, 1]), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0 and not embeddings.grad.isnan().any()  # type: ignore[union-attr]


def views_of(photos: int = 64, kinds: int = 4) -> tuple[Tensor, np.ndarray]:
    """Three noisy views of photos: 8 features tell their kind, 16 themselves, 24 are large and tell nothing."""
    draw = torch.Generator().manual_seed(2)
    kind = torch.arange(photos) % kinds
    centres = torch.randn(kinds, 8, generator=draw)[kind] + 100
    own = 0.01 * torch.randn(photos, 16, generator=draw)
    clean = torch.cat([centres, own], 1)
    noise = torch.randn(3, photos, 24, generator=draw) * torch.tensor([0.3] * 8 + [0.002] * 16)
    return torch.cat([clean + noise, 50 * torch.randn(3, photos, 24, generator=draw)], 2), kind.numpy()


@torch.no_grad()
def embed(head: StandardisedLinear, features: Tensor) -> np.ndarray:
    vectors: np.ndarray = torch.nn.functional.normalize(head(features), dim=-1).numpy()
    return vectors


def test_a_view_finds_its_photo_and_photos_find_their_kind() -> None:
    features, kind = views_of()
    head = fit_embedding(StandardisedLinear(48, 16), features, kind[None], QUICK)
    assert not head.training
    vectors = embed(head, features)
    cosines = vectors[0] @ vectors[1].T
    assert (cosines.argmax(1) == np.arange(64)).mean() > 0.7
    among = vectors[0] @ vectors[0].T - 2 * np.eye(64)
    assert (kind[among.argsort(1)[:, -10:]] == kind[:, None]).mean() > 0.35, "a quarter would be chance"
    np.testing.assert_allclose(head.mean, features.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(1 / head.scale, features.std((0, 1)), rtol=1e-4)


def test_a_feature_that_never_varies_is_left_out() -> None:
    features, kind = views_of()
    features[..., 3] = 7.0
    features[..., 4] = 1e-5 * features[..., 4]
    head = fit_embedding(StandardisedLinear(48, 16), features, kind[None], dataclasses.replace(QUICK, steps=2))
    assert (head.scale[3:5] == 0).all() and (head.scale[5:] > 0).all()
    assert head.scale.max() < np.finfo(np.float16).max


def test_labels_bring_kinds_together() -> None:
    features, kind = views_of()
    alone = dataclasses.replace(QUICK, label_weight=0.0)
    shares = []
    for config in (alone, QUICK):
        vectors = embed(fit_embedding(StandardisedLinear(48, 16), features, kind[None], config), features)[0]
        nearest = (vectors @ vectors.T - 2 * np.eye(64)).argsort(1)[:, -10:]
        shares.append((kind[nearest] == kind[:, None]).mean())
    assert shares[1] > shares[0] + 0.05


def test_the_same_seed_gives_the_same_head() -> None:
    features, kind = views_of()
    first, second, other = (
        fit_embedding(StandardisedLinear(48, 16), features, kind[None], dataclasses.replace(QUICK, steps=5, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


@pytest.mark.parametrize("features", [torch.zeros(1, 64, 48), torch.zeros(2, 31, 48)])
def test_too_few_views_or_photos(features: Tensor) -> None:
    with pytest.raises(ValueError, match="two views or more of at least 32 photos"):
        fit_embedding(StandardisedLinear(48, 16), features, np.zeros((1, features.shape[1]), np.int64), QUICK)
