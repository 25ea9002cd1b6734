"""Duplicates in a gallery: the same file, the same photo encoded again, or another photo of the same item."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import ImageError
from fashion_infer.gallery.match import META
from fashion_infer.gallery.rows import Row, path_of_text
from fashion_infer.gallery.store import Store
from fashion_infer.images import read_image
from fashion_infer.preprocess import crop

NEIGHBOURS = 10  # nearest rows that each row is compared with
AT_ONCE = 256  # rows searched together
CANDIDATE = 0.9  # cosine similarity from which on the photos of two rows are compared
THUMBNAIL = 32  # side of a thumbnail, pixels
SAME_PHOTO = 0.97  # correlation of the thumbnails of one photo; two cameras' photos of an item reach about 0.9


class Pair(NamedTuple):
    """Two rows that show the same file, photo or item; `kind` is "file", "photo" or "item"."""

    kind: str
    first: Row
    second: Row
    score: float


def duplicates(store: Store, progress: Callable[[int], None] | None = None) -> Iterator[Pair]:
    """Yield each pair of duplicates once, in the order of the rows.

    Args:
        store: the gallery's store.
        progress: called with the number of rows that have been compared.
    """
    likely = store.meta.get(META, {}).get("likely", 1.0)  # without measured levels, items cannot be recognised
    thumbnail = lru_cache(4096)(_thumbnail)
    seen: set[tuple[str, str]] = set()
    rows = iter(store)
    done = 0
    while batch := list(islice(rows, AT_ONCE)):
        vectors = np.stack([row.vector for row in batch]).astype(np.float32)
        neighbours = store.nearest(vectors, NEIGHBOURS + 1, None).candidates
        for row, candidates in zip(batch, neighbours, strict=True):
            for score, other in candidates:
                key = (min(row.id, other.id), max(row.id, other.id))
                if score < min(likely, CANDIDATE) or row.id == other.id or key in seen:
                    continue
                if (kind := _kind(row, other, score, likely, thumbnail)) is not None:
                    seen.add(key)
                    yield Pair(kind, row, other, score)
        done += len(batch)
        if progress is not None:
            progress(done)


def _kind(
    row: Row, other: Row, score: float, likely: float, thumbnail: "Callable[[str, object], NDArray[np.float32] | None]"
) -> str | None:
    """Return the kind of a pair, or None if the rows are no duplicates."""
    if row.record == other.record:
        return None  # two boxes of one photo
    if row.content_hash == other.content_hash and row.asked == other.asked:
        return "file"
    pictures = [None if r.path is None else thumbnail(r.path, r.asked) for r in (row, other)]
    if pictures[0] is not None and pictures[1] is not None and float((pictures[0] * pictures[1]).mean()) >= SAME_PHOTO:
        return "photo"
    item = row.columns.get("item")
    same_item = item is not None and item == other.columns.get("item")  # the user's table says so already
    return "item" if score >= likely and not same_item else None


def _thumbnail(path: str, box: object) -> NDArray[np.float32] | None:
    """Return a small grey picture with mean 0 and standard deviation 1, or None if the photo cannot be read."""
    try:
        picture = read_image(path_of_text(path), side=THUMBNAIL, boxes=None if box is None else [box])  # type: ignore[list-item]
        pixels = crop(picture, box, THUMBNAIL).pixels  # type: ignore[arg-type]
    except ImageError:
        return None
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    result: NDArray[np.float32] = (grey - grey.mean()) / max(float(grey.std()), 1e-3)
    return result
