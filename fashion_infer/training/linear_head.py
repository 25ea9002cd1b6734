"""Regularised logistic heads on features that are computed already: fitted in seconds, their strength cross-validated.

A head is rows of weights. Each starts where it is told, and what the fit may add to it is kept small: a row that knows
something keeps it unless the photos say otherwise, and a row that must stay as it is simply is not fitted. The loss is
convex, so nothing depends on a seed but the folds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import missing_extra

try:
    from scipy.optimize import minimize
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.special import expit, log_expit, logsumexp
    from sklearn.model_selection import StratifiedGroupKFold
except ImportError as error:
    raise missing_extra(error.name or "scikit-learn", "train", error) from error

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-2, -12, -1))  # of the penalty, the strongest first
FOLDS = 5
SAME_ITEM = 0.9  # both the cosine of two embeddings and the correlation of two thumbnails, of photos of one thing
LEAST_DEVIATION = 0.1  # of a feature, in shares of its block's: what hardly varies here must not grow out of scale
STEPS = 100  # of L-BFGS for each strength, at most
PATIENCE = 2  # strengths whose loss is no longer the least, before the weaker ones are left out
AT_ONCE = 2048  # photos compared with all others

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Kind = Literal["softmax", "binary"]
Loss = Callable[[Floats, Ints], tuple[float, Floats]]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear function: logits = features @ weight.T + bias, of features [N, F].

    Attributes:
        weight: [C, F].
        bias: [C].
    """

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """[N, F] -> [N, C]."""
        values: Floats = features @ self.weight.T + self.bias
        return values


@dataclass(frozen=True)
class Fitting:
    """What is fitted, and how.

    Attributes:
        kind: `softmax`: one class a photo, targets [N]; `binary`: each row by itself, targets [N, C] of 1 yes, -1 no
            and 0 unknown.
        blocks: sizes of the parts that the features consist of, in order.
        trained: bool [C], the rows that are fitted; the others stay as they start.
    """

    kind: Kind
    blocks: tuple[int, ...]
    trained: NDArray[np.bool_]


def path(features: Floats, targets: Ints, start: Head, fitting: Fitting) -> Iterator[Head]:
    """Fit a head for one strength of the penalty after the other, each from where the last one ended.

    The penalty is half its strength times the squares of what is added to the weights, of features that have mean 0,
    deviation 1 and together unit length on average; biases have none.

    Args:
        features: [N, F].
        targets: see `Fitting`.
        start: where the rows start, and what they are drawn to.
        fitting: what is fitted.

    Yields:
        The head for each of `STRENGTHS`.
    """
    mean, scale = _standardisation(features, fitting.blocks)
    standard = (features - mean) * scale
    basis = None
    if len(standard) < standard.shape[1]:  # the solution lies in the span of the photos
        basis = np.linalg.qr(standard.T)[0]
        standard = standard @ basis
    offset, rows = start.logits(features), int(fitting.trained.sum())
    added = np.zeros((standard.shape[1] + 1) * rows)
    for strength in STRENGTHS:
        added = _minimised(standard, offset, targets, strength, fitting, added)
        parts = added.reshape(-1, rows)
        weight = (parts[:-1] if basis is None else basis @ parts[:-1]) * scale[:, None]
        head = Head(start.weight.copy(), start.bias.copy())
        head.weight[fitting.trained] += weight.T
        head.bias[fitting.trained] += parts[-1] - mean @ weight
        yield head


def fit(features: Floats, targets: Ints, start: Head, strength: float, fitting: Fitting) -> Head:
    """The head for one of `STRENGTHS`; see `path`."""
    heads = zip(STRENGTHS, path(features, targets, start, fitting), strict=False)
    return next(head for one, head in heads if one == strength)


def cross_validate(
    features: Floats, targets: Ints, start: Head, folds: Ints, fitting: Fitting, tick: Callable[[], object] = int
) -> tuple[float, Floats]:
    """The strength with the least loss on photos that were not fitted on, and what its heads say of these.

    Weaker penalties are tried until the loss has risen twice: the weakest take the longest.

    Args:
        features: [N, F].
        targets: see `Fitting`.
        start: see `path`.
        folds: [N], the number of each photo's fold.
        fitting: see `path`.
        tick: is called for each of `STRENGTHS`.

    Returns:
        The strength, and logits [N, C].
    """
    held = [folds == fold for fold in np.unique(folds)]
    paths = [path(features[~rows], targets[~rows], start, fitting) for rows in held]
    best, least, rises = (STRENGTHS[0], np.zeros((len(features), len(start.bias)))), np.inf, 0
    for strength in STRENGTHS:
        tick()
        if rises < PATIENCE:
            logits = np.zeros((len(features), len(start.bias)))
            for rows, heads in zip(held, paths, strict=True):
                logits[rows] = next(heads).logits(features[rows])
            loss = mean_loss(logits, targets, fitting.kind)
            rises = 0 if loss < least else rises + 1
            if loss < least:
                best, least = (strength, logits), loss
    return best


def mean_loss(logits: Floats, targets: Ints, kind: Kind) -> float:
    """The mean loss of photos (softmax) or of their known labels (binary)."""
    return LOSSES[kind](logits, targets)[0]


def groups_of(embeddings: Floats, thumbnails: NDArray[np.uint8], photos: Sequence[str]) -> Ints:
    """[N]: a number that near-duplicates share: crops of one photo, copies of it, and further photos of its moment.

    Args:
        embeddings: [N, D] of unit length.
        thumbnails: uint8 [N, T, T].
        photos: the N photos' paths.
    """
    small = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    numbers = {photo: number for number, photo in enumerate(dict.fromkeys(photos))}
    of_photo = np.array([numbers[photo] for photo in photos], np.int64)
    ones, others = [], []
    for first in range(0, len(photos), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        alike = (embeddings[some] @ embeddings.T >= SAME_ITEM) & (small[some] @ small.T >= SAME_ITEM)
        rows, columns = np.nonzero(alike | (of_photo[some, None] == of_photo))
        ones.append(rows + first)
        others.append(columns)
    pairs = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(len(photos), len(photos)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def folds_of(labels: Ints, groups: Ints, seed: int) -> Ints:
    """[N]: the fold of each photo; every class is spread over the folds, no group lies in two.

    There are `FOLDS`, or as many as the class with the fewest groups has, but at least two.

    Args:
        labels: [N], from 0.
        groups: [N], of `groups_of`.
        seed: of the order in which groups are dealt out.
    """
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    splitter = StratifiedGroupKFold(max(2, min(FOLDS, fewest)), shuffle=True, random_state=seed)
    folds = np.zeros(len(labels), np.int64)
    for number, (_, held) in enumerate(splitter.split(labels, labels, groups)):
        folds[held] = number
    return folds


def _standardisation(features: Floats, blocks: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The features' means [F], and what to multiply the rest with [F]: unit length on average."""
    deviations = features.std(0, dtype=np.float64)
    least = np.repeat(
        [LEAST_DEVIATION * np.sqrt(np.square(part).mean()) for part in np.split(deviations, np.cumsum(blocks)[:-1])],
        blocks,
    )
    scale = 1 / np.maximum(np.maximum(deviations, least), 1e-12)
    return features.mean(0, dtype=np.float64), np.where(deviations > 0, scale, 0) / np.sqrt(features.shape[1])


def _minimised(
    features: Floats, offset: Floats, targets: Ints, strength: float, fitting: Fitting, start: Floats
) -> Floats:
    """What to add to the trained rows: [(F + 1) * T], the weights by feature, then the bias, which is not penalised."""
    loss = LOSSES[fitting.kind]

    def objective(flat: Floats) -> tuple[float, Floats]:
        added = flat.reshape(features.shape[1] + 1, -1)
        weight, bias = added[:-1], added[-1]
        logits = offset.copy()
        logits[:, fitting.trained] += features @ weight + bias
        value, slope = loss(logits, targets)
        slope = slope[:, fitting.trained]
        gradient = np.concatenate([features.T @ slope + strength * weight, slope.sum(0, keepdims=True)])
        return value + strength / 2 * float(np.square(weight).sum()), gradient.ravel()

    result = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(result.x, np.float64)


def _softmax_loss(logits: Floats, targets: Ints) -> tuple[float, Floats]:
    shares = logits - logsumexp(logits, axis=1, keepdims=True)
    places = np.arange(len(targets)), targets
    slope = np.exp(shares)
    slope[places] -= 1
    return -float(shares[places].mean()), slope / len(targets)


def _binary_loss(logits: Floats, targets: Ints) -> tuple[float, Floats]:
    known = max(1, int((targets != 0).sum()))
    margins = targets * logits
    value = -float(np.where(targets != 0, log_expit(margins), 0).sum()) / known
    return value, -targets * expit(-margins) / known


LOSSES: dict[Kind, Loss] = {"softmax": _softmax_loss, "binary": _binary_loss}
