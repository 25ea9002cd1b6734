"""The photos that own categories are learnt from: read, looked at, and freed of what would spoil them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.benchmarks import READERS, benchmarks_in
from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError
from fashion_infer.evaluation.judging import Progress
from fashion_infer.training.features import Features, features_of
from fashion_infer.training.linear_head import groups_of
from fashion_infer.training.model import FashionNet

LABELLED = ("category_fine", "category", "deepfashion2")  # benchmarks with categories
LEAST, FEW = 5, 20  # photos a class: fewer than the first are refused, fewer than the second are warned of

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True, eq=False)
class Photos:
    """N photos with their labels and features; every array has a row for each.

    Attributes:
        data: the rows.
        features: float32 [N, F], what the heads read.
        groups: int64 [N], a number that near-duplicates share.
        keys: N hashes of what each shows.
        thumbnails: uint8 [N, 32, 32].
        skipped: images that could not be used -> why.
    """

    data: FashionData
    features: NDArray[np.float32]
    groups: NDArray[np.int64]
    keys: tuple[str, ...]
    thumbnails: NDArray[np.uint8]
    skipped: dict[str, str]

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N], the category of each, from 0."""
        return self.data.categories.astype(np.int64)

    def embeddings(self, size: int) -> NDArray[np.float32]:
        """[N, D] of unit length: the last block of the features."""
        return self.features[:, -size:]

    def path(self, row: int) -> Path:
        """Of the photo of a row."""
        return self.data.image_root / self.data.images[row]


def read_own(folder: Path, highres: bool | None = None) -> FashionData:
    """Read class folders, or the training and validation rows of a set in DeepFashion's layout.

    Of such a set only the categories that have enough photos are kept.

    Raises:
        DataError: the folder is neither, a file of the set is missing or malformed, or no category has enough photos.
    """
    names = [name for name in LABELLED if folder.is_dir() and name in benchmarks_in(folder)]
    if not names:
        return read_class_folders(folder)
    whole = READERS[names[0]](folder, highres=highres)
    data = whole.select(np.flatnonzero((whole.splits != "test") & (whole.categories >= 0)))
    counts = np.bincount(data.categories, minlength=len(data.category_names))
    if rare := [name for name, n in zip(data.category_names, counts, strict=True) if 0 < n < LEAST]:
        logger.warning("left out, with fewer than %d photos: %s", LEAST, ", ".join(rare))
    kept = np.flatnonzero(counts >= LEAST)
    if not len(kept):
        raise DataError(f"{folder}: no category has {LEAST} photos")
    numbers = np.full(len(counts), -1)
    numbers[kept] = np.arange(len(kept))
    data = data.select(np.flatnonzero(counts[data.categories] >= LEAST))
    return replace(
        data,
        categories=numbers[data.categories].astype(np.int16),
        category_names=tuple(data.category_names[place] for place in kept),
    )


def look_at(network: FashionNet, data: FashionData, progress: Progress, *, least: int = LEAST) -> Photos:
    """The features of a set, without the photos that contradict themselves: the same photo in two classes.

    Of copies of a photo within a class one is kept. What is left out is logged.

    Args:
        network: whose features.
        data: the set.
        progress: see `features_of`.
        least: different photos that each class must have.

    Raises:
        DataError: fewer than `least` photos of a class, or none of all, can be used.
    """
    features = features_of(network, data, progress)
    for image, why in list(features.skipped.items())[:10]:
        logger.warning("left out: %s %s", image, why)
    kept = _without_contradictions(data, features)
    kept_rows = features.rows[kept]
    values, thumbnails = features.values[kept], features.thumbnails[kept]
    chosen = data.select(kept_rows)
    _check_counts(chosen, least)
    embeddings = values[:, -network.arch.embedding_dim :]
    groups = groups_of(embeddings, thumbnails, chosen.images)
    photos = Photos(
        chosen, values, groups, tuple(features.keys[row] for row in kept), thumbnails, dict(features.skipped)
    )
    _report_near_duplicates(photos)
    return photos


def without_known(photos: Photos, known: Photos, size: int) -> Photos:
    """The photos of a test set without those that show what training photos show: they would judge memory.

    Args:
        photos: of the test set.
        known: of the training set.
        size: D of the embedding.
    """
    both = np.concatenate([photos.embeddings(size), known.embeddings(size)])
    names = [str(some.path(row)) for some in (photos, known) for row in range(len(some.data))]
    groups = groups_of(both, np.concatenate([photos.thumbnails, known.thumbnails]), names)
    count = len(photos.data)
    again = np.isin(groups[:count], groups[count:])
    if again.any():
        first = photos.data.images[int(np.flatnonzero(again)[0])]
        logger.warning("%d test photos are in the training folder too and are left out, as %s", again.sum(), first)
    rows = np.flatnonzero(~again)
    return replace(
        photos,
        data=photos.data.select(rows),
        features=photos.features[rows],
        groups=photos.groups[rows],
        keys=tuple(photos.keys[row] for row in rows),
        thumbnails=photos.thumbnails[rows],
    )


def _without_contradictions(data: FashionData, features: Features) -> list[int]:
    """The places in the features of one copy of each photo, where its copies agree on the class."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(features.keys):
        places.setdefault(key, []).append(place)
    kept, copies = [], 0
    for same in places.values():
        rows = [int(features.rows[place]) for place in same]
        if len({int(data.categories[row]) for row in rows}) > 1:
            images = ", ".join(data.images[row] for row in rows[:3])
            logger.warning("the same photo in several classes, left out of all of them: %s", images)
        else:
            kept.append(same[0])
            copies += len(same) - 1
    if copies:
        logger.warning("%d copies of other photos of their class are left out", copies)
    return kept


def _check_counts(data: FashionData, least: int) -> None:
    counts = np.bincount(data.categories, minlength=len(data.category_names))
    names = list(zip(data.category_names, counts.tolist(), strict=True))
    if empty := [name for name, count in names if count == 0]:
        raise DataError(f"no photo of {_some(empty)} can be used: add some, or remove the class")
    if short := [f"{name} ({count})" for name, count in names if count < least]:
        raise DataError(f"a class needs at least {least} different photos, and better {FEW}; too few: {_some(short)}")
    if least == LEAST and (few := [f"{name} ({count})" for name, count in names if count < FEW]):
        logger.warning("fewer than %d photos: %s; more would make them surer", FEW, _some(few))


def _report_near_duplicates(photos: Photos) -> None:
    """Log near-duplicates that lie in two classes: they stay, in one fold, and one label is likely wrong."""
    order = np.argsort(photos.groups, kind="stable")
    pairs = [
        (int(one), int(other))
        for one, other in pairwise(order.tolist())
        if photos.groups[one] == photos.groups[other]
        and photos.labels[one] != photos.labels[other]
        and photos.data.images[one] != photos.data.images[other]  # two garments of one photo
    ]
    for one, other in pairs[:5]:
        images = photos.data.images
        logger.warning("nearly the same photo in two classes: %s and %s", images[one], images[other])
    if len(pairs) > 5:
        logger.warning("and %d more such pairs", len(pairs) - 5)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
