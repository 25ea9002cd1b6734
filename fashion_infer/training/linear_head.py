"""Logistic regression on precomputed features, with an L2 penalty whose strength is chosen by cross-validation.

A head has one row of weights per class. Each row starts from given weights, and the penalty applies to the change from
them: a row of a class that the model already has keeps its weights unless the photos speak against them. Rows that
must not change are not fitted. The loss is convex, so the seed only affects how photos are dealt into folds.
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

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-2, -12, -1))  # penalties to try, strongest first
FOLDS = 5
# Near-duplicates: both the cosine of the embeddings and the correlation of the thumbnails are at least this.
SAME_ITEM = 0.9
# Lower bound of a feature's deviation as a share of its block's: features that hardly vary must not be scaled up.
LEAST_DEVIATION = 0.1
STEPS = 100  # most L-BFGS steps for each strength
PATIENCE = 2  # strengths in a row without improvement before the weaker ones are skipped
CHUNK = 2048  # photos that are compared with all photos in one matrix product

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Kind = Literal["softmax", "binary"]
Loss = Callable[[Floats, Ints], tuple[float, Floats]]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer: logits [N, C] = features [N, F] @ weight.T + bias.

    Attributes:
        weight: [C, F].
        bias: [C].
    """

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """Compute logits [N, C] from features [N, F]."""
        values: Floats = features @ self.weight.T + self.bias
        return values


@dataclass(frozen=True)
class Fitting:
    """How a head is fitted.

    Attributes:
        kind: `softmax` for one class per photo, with targets int64 [N]; `binary` for independent labels, with targets
            [N, C] of 1 (yes), -1 (no) and 0 (unknown).
        blocks: Sizes of the parts that the features consist of, in order.
        trained: bool [C], the rows to fit; the others keep their initial weights.
    """

    kind: Kind
    blocks: tuple[int, ...]
    trained: NDArray[np.bool_]


def path(features: Floats, targets: Ints, start: Head, fitting: Fitting) -> Iterator[Head]:
    """Fit a head for each penalty strength in turn, each fit starting from the result of the previous one.

    The penalty is half its strength times the sum of squares of the change of the weights. It applies to standardised
    features: mean 0, equal deviations, and vectors of unit length on average. Biases are not penalised.

    Args:
        features: [N, F].
        targets: Labels, see `Fitting.kind`.
        start: The initial rows, from which the penalty measures the change.
        fitting: How the head is fitted.

    Yields:
        The head for each of `STRENGTHS`.
    """
    mean, scale = _standardisation(features, fitting.blocks)
    standard = (features - mean) * scale
    basis = None
    if len(standard) < standard.shape[1]:  # the solution lies in the span of the photos, so fit in that smaller space
        basis = np.linalg.qr(standard.T)[0]
        standard = standard @ basis
    offset, rows = start.logits(features), int(fitting.trained.sum())
    added = np.zeros((standard.shape[1] + 1) * rows)
    for strength in STRENGTHS:
        added = _minimise(standard, offset, targets, strength, fitting, added)
        parts = added.reshape(-1, rows)
        weight = (parts[:-1] if basis is None else basis @ parts[:-1]) * scale[:, None]
        head = Head(start.weight.copy(), start.bias.copy())
        head.weight[fitting.trained] += weight.T
        head.bias[fitting.trained] += parts[-1] - mean @ weight
        yield head


def fit(features: Floats, targets: Ints, start: Head, strength: float, fitting: Fitting) -> Head:
    """Fit the head for one of `STRENGTHS`; see `path` for the arguments."""
    heads = zip(STRENGTHS, path(features, targets, start, fitting), strict=False)
    return next(head for fitted_strength, head in heads if fitted_strength == strength)


def cross_validate(
    features: Floats, targets: Ints, start: Head, folds: Ints, fitting: Fitting, tick: Callable[[], object] = int
) -> tuple[float, Floats]:
    """Find the penalty strength with the lowest loss on held-out photos.

    Weaker penalties are tried until the loss has failed to improve twice in a row, since the weakest take the longest.

    Args:
        features: [N, F].
        targets: Labels, see `Fitting.kind`.
        start: The initial rows, see `path`.
        folds: int64 [N], the number of each photo's fold.
        fitting: How the head is fitted.
        tick: Called once for each of `STRENGTHS`, to show progress.

    Returns:
        The best strength, and logits [N, C], each row from the head that was not fitted on its photo.
    """
    held_out = [folds == fold for fold in np.unique(folds)]
    paths = [path(features[~rows], targets[~rows], start, fitting) for rows in held_out]
    best, least, rises = (STRENGTHS[0], np.zeros((len(features), len(start.bias)))), np.inf, 0
    for strength in STRENGTHS:
        tick()
        if rises < PATIENCE:
            logits = np.zeros((len(features), len(start.bias)))
            for rows, heads in zip(held_out, paths, strict=True):
                logits[rows] = next(heads).logits(features[rows])
            loss = mean_loss(logits, targets, fitting.kind)
            rises = 0 if loss < least else rises + 1
            if loss < least:
                best, least = (strength, logits), loss
    return best


def mean_loss(logits: Floats, targets: Ints, kind: Kind) -> float:
    """Compute the mean loss over the photos (softmax) or over all labels that are not 0 (binary)."""
    return LOSSES[kind](logits, targets)[0]


def groups_of(embeddings: Floats, thumbnails: NDArray[np.uint8], photos: Sequence[str]) -> Ints:
    """Number groups of near-duplicates: crops of one photo, copies of it, and photos taken at the same moment.

    Args:
        embeddings: [N, D] of unit length.
        thumbnails: uint8 [N, T, T], grey.
        photos: Paths of the N photos; crops of one photo have the same path.

    Returns:
        int64 [N], the same number for all near-duplicates.
    """
    small = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    numbers = {photo: number for number, photo in enumerate(dict.fromkeys(photos))}
    of_photo = np.array([numbers[photo] for photo in photos], np.int64)
    ones, others = [], []
    for first in range(0, len(photos), CHUNK):
        chunk = slice(first, first + CHUNK)
        alike = (embeddings[chunk] @ embeddings.T >= SAME_ITEM) & (small[chunk] @ small.T >= SAME_ITEM)
        rows, columns = np.nonzero(alike | (of_photo[chunk, None] == of_photo))
        ones.append(rows + first)
        others.append(columns)
    pairs = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(len(photos), len(photos)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def folds_of(labels: Ints, groups: Ints, seed: int) -> Ints:
    """Assign photos to folds: every class is spread over the folds, and no group is split between two.

    There are `FOLDS` folds, or as many as the class with the fewest groups has, but at least two.

    Args:
        labels: int64 [N], class numbers from 0.
        groups: int64 [N], the result of `groups_of`.
        seed: Random seed of the assignment.

    Returns:
        int64 [N], the number of each photo's fold.
    """
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    splitter = StratifiedGroupKFold(max(2, min(FOLDS, fewest)), shuffle=True, random_state=seed)
    folds = np.zeros(len(labels), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = number
    return folds


def _standardisation(features: Floats, blocks: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the features' means [F] and the factors [F] that give the centred vectors unit length on average."""
    deviations = features.std(0, dtype=np.float64)
    least = np.repeat(
        [LEAST_DEVIATION * np.sqrt(np.square(part).mean()) for part in np.split(deviations, np.cumsum(blocks)[:-1])],
        blocks,
    )
    scale = 1 / np.maximum(np.maximum(deviations, least), 1e-12)
    return features.mean(0, dtype=np.float64), np.where(deviations > 0, scale, 0) / np.sqrt(features.shape[1])


def _minimise(
    features: Floats, offset: Floats, targets: Ints, strength: float, fitting: Fitting, start: Floats
) -> Floats:
    """Minimise the penalised loss.

    Args:
        features: [N, F], standardised.
        offset: [N, C], the logits of the initial head.
        targets: Labels, see `Fitting.kind`.
        strength: Strength of the penalty.
        fitting: How the head is fitted.
        start: [(F + 1) * T], the point to start from.

    Returns:
        [(F + 1) * T], what to add to the T trained rows: the weights feature by feature, then the bias.
    """
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
    labels = max(1, int((targets != 0).sum()))
    margins = targets * logits
    value = -float(np.where(targets != 0, log_expit(margins), 0).sum()) / labels
    return value, -targets * expit(-margins) / labels


LOSSES: dict[Kind, Loss] = {"softmax": _softmax_loss, "binary": _binary_loss}
