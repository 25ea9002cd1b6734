"""The photos that own categories are learnt from, without copies and contradicting labels."""

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
LEAST, FEW = 5, 20  # photos per class: fewer than LEAST is an error, fewer than FEW a warning

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True, eq=False)
class Photos:
    """N photos with their labels and features.

    Attributes:
        data: The labels, one row per photo.
        features: float32 [N, F], the inputs of the heads.
        groups: int64 [N], the same number for all near-duplicates.
        keys: N hashes of the photo's bytes and its box.
        thumbnails: uint8 [N, 32, 32], small grey pictures.
        skipped: Images that could not be used, each with the reason.
    """

    data: FashionData
    features: NDArray[np.float32]
    groups: NDArray[np.int64]
    keys: tuple[str, ...]
    thumbnails: NDArray[np.uint8]
    skipped: dict[str, str]

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N], the number of each photo's category, from 0."""
        return self.data.categories.astype(np.int64)

    def embeddings(self, size: int) -> NDArray[np.float32]:
        """Return the embeddings, [N, size] of unit length: the last block of the features."""
        return self.features[:, -size:]

    def path(self, row: int) -> Path:
        """Return the path of a row's photo."""
        return self.data.image_root / self.data.images[row]


def read_own(folder: Path, highres: bool | None = None) -> FashionData:
    """Read class folders, or the training and validation rows of a set in DeepFashion's layout.

    Of a set in DeepFashion's layout only the categories that have enough photos are kept.

    Args:
        folder: The folder to read.
        highres: For DeepFashion's layout, which photos the labels belong to, see `highres.at_true_size`.

    Raises:
        DataError: The folder is neither, a file of the set is missing or malformed, or no category has enough photos.
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


def load_photos(network: FashionNet, data: FashionData, progress: Progress, *, least: int = LEAST) -> Photos:
    """Compute the features of a set, and leave out copies of a photo.

    Of copies within a class one is kept. A photo that lies in several classes is left out of all of them. Everything
    left out is logged.

    Args:
        network: The network that computes the features.
        data: The labelled photos.
        progress: Wraps the sequence of row numbers, to show a progress bar.
        least: Number of different photos that each class must have.

    Raises:
        DataError: Fewer than `least` photos of a class can be used.
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


def without_training_photos(photos: Photos, training: Photos, size: int) -> Photos:
    """Return the photos of a test set without near-duplicates of training photos, which would be recognised by memory.

    Args:
        photos: The test set.
        training: The training set.
        size: Length of the embedding.
    """
    both = np.concatenate([photos.embeddings(size), training.embeddings(size)])
    names = [str(part.path(row)) for part in (photos, training) for row in range(len(part.data))]
    groups = groups_of(both, np.concatenate([photos.thumbnails, training.thumbnails]), names)
    count = len(photos.data)
    repeated = np.isin(groups[:count], groups[count:])
    if repeated.any():
        first = photos.data.images[int(np.flatnonzero(repeated)[0])]
        logger.warning(
            "%d test photos are in the training folder too and are left out, for example %s", repeated.sum(), first
        )
    rows = np.flatnonzero(~repeated)
    return replace(
        photos,
        data=photos.data.select(rows),
        features=photos.features[rows],
        groups=photos.groups[rows],
        keys=tuple(photos.keys[row] for row in rows),
        thumbnails=photos.thumbnails[rows],
    )


def _without_contradictions(data: FashionData, features: Features) -> list[int]:
    """Return one position in the features for each different photo whose copies all have the same class."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(features.keys):
        places.setdefault(key, []).append(place)
    kept, copies = [], 0
    for copy_places in places.values():
        rows = [int(features.rows[place]) for place in copy_places]
        if len({int(data.categories[row]) for row in rows}) > 1:
            images = ", ".join(data.images[row] for row in rows[:3])
            logger.warning("the same photo in several classes, left out of all of them: %s", images)
        else:
            kept.append(copy_places[0])
            copies += len(copy_places) - 1
    if copies:
        logger.warning("%d copies of other photos of their class are left out", copies)
    return kept


def _check_counts(data: FashionData, least: int) -> None:
    counts = np.bincount(data.categories, minlength=len(data.category_names))
    names = list(zip(data.category_names, counts.tolist(), strict=True))
    if empty := [name for name, count in names if count == 0]:
        raise DataError(f"no photo of {_shorten(empty)} can be used: add some, or remove the class")
    if short := [f"{name} ({count})" for name, count in names if count < least]:
        listed = _shorten(short)
        raise DataError(f"a class needs at least {least} different photos, and better {FEW}; too few: {listed}")
    if least == LEAST and (few := [f"{name} ({count})" for name, count in names if count < FEW]):
        logger.warning("fewer than %d photos: %s; more would make these classes more reliable", FEW, _shorten(few))


def _report_near_duplicates(photos: Photos) -> None:
    """Log near-duplicates that lie in two classes: they are kept, in the same fold, but one label is likely wrong."""
    order = np.argsort(photos.groups, kind="stable")
    pairs = [
        (int(one), int(other))
        for one, other in pairwise(order.tolist())
        if photos.groups[one] == photos.groups[other]
        and photos.labels[one] != photos.labels[other]
        and photos.data.images[one] != photos.data.images[other]  # two garments in one photo are no contradiction
    ]
    for one, other in pairs[:5]:
        images = photos.data.images
        logger.warning("nearly the same photo in two classes: %s and %s", images[one], images[other])
    if len(pairs) > 5:
        logger.warning("and %d more such pairs", len(pairs) - 5)


def _shorten(names: Sequence[str]) -> str:
    """Join the first five names and say how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
