"""Evaluation without item labels: a changed view of each photo must find its original among all photos.

Two views are made of each query photo, with random numbers that depend only on the seed and the photo's name.
`alike_view` imitates a person who takes or sends the same picture again. `unlike_view` makes strong changes of other
kinds, which a network cannot have learnt from training on views of the first kind. Photos are not cropped to boxes.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.benchmarks import READERS, find_benchmarks
from fashion_infer.data.own_retrieval import numbered, read_csv
from fashion_infer.errors import DataError, ImageError
from fashion_infer.evaluation.judging import FolderJudgement, Progress, Run, decoded, each_benchmark
from fashion_infer.evaluation.measures import Floats, Ints
from fashion_infer.evaluation.retrieval import NEIGHBOURS, hit_rate, neighbour_agreement, retrieval_ranks
from fashion_infer.images import Pixels, read_bytes, read_image
from fashion_infer.inputs import expand_paths
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import crop, resize

VIEW_KS = (1, 10)
SENDERS = ("image", "sender")  # columns of the CSV with the sender of each photo
SIDE = 512  # pixels; views are made of the photo shrunk to this long side

TURN = 10.0  # largest rotation in degrees, in either direction
PERSPECTIVE = 0.04  # largest movement of each corner, as a share of a side
KEPT = (0.75, 0.95)  # share of each side that the crop keeps
BRIGHTNESS, CONTRAST, CAST = (0.7, 1.3), (0.75, 1.25), (0.88, 1.12)
JPEG_QUALITY = (35, 75)

HARD_KEPT = (0.65, 0.75)
COVERED = 0.2  # share of the area that is covered
GAMMA = (1.4, 1.6)  # exponent, or its inverse
SMALL_SIDE = 112  # pixels


@dataclass(frozen=True)
class ViewsJudgement:
    """The result: how well an embedding finds photos again, and the labels of their neighbours.

    Attributes:
        photos: number of photos in the gallery.
        queries: number of photos whose views were looked up.
        alike: {k: share of the alike views whose original is among the k nearest photos}.
        unlike: {k: share of the unlike views whose original is among the k nearest photos}.
        neighbours: mean share of the ten nearest photos of a query (from other sources, if these are known) that have
            its label; NaN without labels.
        skipped: error of each photo that could not be used.
    """

    photos: int
    queries: int
    alike: dict[int, float]
    unlike: dict[int, float]
    neighbours: float
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON."""
        return {"photos": self.photos, "queries": self.queries, **dict(self.rows()), "skipped": self.skipped}

    def remarks(self) -> list[tuple[str, list[str]]]:
        """Remarks that a reader of the numbers needs, each with the photos that it concerns."""
        return [("photos could not be used", list(self.skipped))] if self.skipped else []

    def rows(self) -> list[tuple[str, float]]:
        """The measures by name; the neighbours only if there are labels."""
        rows = [(f"views_recall{k}", share) for k, share in self.alike.items()]
        rows += [(f"unlike_views_recall{k}", share) for k, share in self.unlike.items()]
        return rows + ([] if np.isnan(self.neighbours) else [("neighbours_same_category", self.neighbours)])


def judge_views(
    run: Run,
    spec: ModelSpec,
    folder: Path,
    images: Sequence[str],
    *,
    queries: NDArray[np.bool_] | None = None,
    labels: Ints | None = None,
    sources: Ints | None = None,
    seed: int = 0,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress = iter,
) -> ViewsJudgement:
    """Look up changed views of photos among all photos.

    Copies of one file count as the same photo.

    Args:
        run: function that maps uint8 [N, S, S, 3] RGB to the outputs of `Predictor.run`; only the embedding is read.
        spec: the network's specification.
        folder: folder of the images.
        images: [N] paths relative to the folder. All of them form the gallery.
        queries: bool [N], the photos whose views are looked up; None for all.
        labels: [N] category of each photo from 0, or -1, for the measure of neighbours; None leaves it out.
        sources: [N] number of each photo's sender or shop from 0, or -1; see `neighbour_agreement`.
        seed: random seed of the views.
        batch_size: number of images in one call of `run`.
        threads: number of threads that decode images; None means one for each core.
        progress: wrapper of the sequence of row numbers, see `judge`.

    Raises:
        DataError: no photo can be read, or no photo to look up.
    """
    queried = np.ones(len(images), np.bool_) if queries is None else queries

    def load(row: int) -> _Photo:
        try:
            return _load(folder, images, row, spec.image_size, seed if queried[row] else None)
        except ImageError as error:
            return _Photo(row, {}, error=str(error))

    rows: list[int] = []
    items: list[str] = []
    skipped: dict[str, str] = {}
    embeddings: dict[str, list[Floats]] = {"original": [], "alike": [], "unlike": []}
    for photos in decoded(load, len(images), batch_size, threads, progress):
        skipped |= {images[photo.row]: photo.error for photo in photos if photo.error}
        rows += [photo.row for photo in photos if not photo.error]
        items += [photo.digest for photo in photos if not photo.error]
        for name, parts in embeddings.items():
            if batch := [photo.pixels[name] for photo in photos if name in photo.pixels]:
                parts.append(run(np.stack(batch))["embedding"])
    if not rows or not embeddings["alike"]:
        raise DataError(f"no photo to look up can be read: {next(iter(skipped.values()), 'there is none')}")
    gallery = np.concatenate(embeddings["original"])
    numbers = np.unique(items, return_inverse=True)[1]
    is_query = queried[rows]
    recall = {
        name: hit_rate(retrieval_ranks(np.concatenate(embeddings[name]), gallery, numbers[is_query], numbers), VIEW_KS)
        for name in ("alike", "unlike")
    }
    neighbours = float("nan")
    if labels is not None:
        origin = None if sources is None else sources[rows]
        neighbours = neighbour_agreement(gallery, labels[rows], origin, is_query, NEIGHBOURS)
    return ViewsJudgement(len(rows), int(is_query.sum()), recall["alike"], recall["unlike"], neighbours, skipped)


def judge_views_folder(
    run: Run,
    spec: ModelSpec,
    root: Path,
    *,
    benchmark: str | None = None,
    split: str = "test",
    senders: Path | None = None,
    seed: int = 0,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress = iter,
) -> FolderJudgement[ViewsJudgement]:
    """Call `judge_views` for every benchmark in a folder and its subfolders, or for a folder of photos.

    All photos of a benchmark form the gallery. The photos of the split are looked up; in a set with the splits query
    and gallery, "test" means its queries. A photo's label is its category, or else the kind of garment that its folder
    names. In a folder without a benchmark, all photos are looked up, and there are no labels.

    Args:
        run: see `judge_views`.
        spec: the network's specification.
        root: the folder.
        benchmark: name of the only benchmark to judge on, a key of `benchmarks.READERS`; None for all.
        split: name of the split whose photos are looked up.
        senders: CSV file with the columns `image` (a path as in the annotations, relative to the folder of the photos)
            and `sender`.
        seed: random seed of the views.
        batch_size: see `judge_views`.
        threads: see `judge_views`.
        progress: see `judge_views`.

    Raises:
        DataError: there is no such folder or benchmark, no benchmark can be judged, or the CSV file of senders is
            malformed.
        ImageError: the folder holds neither a benchmark nor a photo.
    """
    sender_of = {} if senders is None else {row["image"]: row["sender"] for _, row in read_csv(senders, SENDERS)}
    settings: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "threads": threads, "progress": progress}

    def judge_photos(folder: Path, images: Sequence[str], **labelled: Any) -> ViewsJudgement:
        if sender_of and sender_of.keys().isdisjoint(images):
            raise DataError(f"{senders} names none of the photos in {folder}: give their paths relative to it")
        sources, _ = numbered([sender_of.get(name, "") for name in images])
        return judge_views(run, spec, folder, images, sources=sources, **labelled, **settings)

    def judge_one(folder: Path, name: str) -> ViewsJudgement:
        data = READERS[name](folder)
        rows = np.unique(data.images, return_index=True)[1]  # one garment for each image
        photos = data.select(rows)
        query_split = "query" if split == "test" and "query" in data.splits else split
        data.split(query_split)  # raises an error if there is no such split
        labels, _ = numbered(photos.kinds().tolist())
        return judge_photos(data.image_root, photos.images, queries=photos.splits == query_split, labels=labels)

    if benchmark is None and not find_benchmarks(root):
        if split != "test":
            raise DataError(f"{root} holds photos without splits, so there is no split {split!r}")
        if senders is not None:
            raise DataError(f"{root} holds photos without categories: {senders} is for neighbours of the same category")
        names = [str(Path(path).relative_to(root)) for path in expand_paths([str(root)])]
        return FolderJudgement({"photos": judge_photos(root, names)}, {})
    return each_benchmark(root, benchmark, judge_one)


def alike_view(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make a view that imitates a photo taken or sent a second time.

    The photo is rotated by up to 10 degrees, each corner is moved by up to 4 % of a side, and a random part of 75 to
    95 % of each side is kept. Pixels from outside the photo are its mirror image. Brightness is multiplied by 0.7 to
    1.3, contrast by 0.75 to 1.25 and each channel by 0.88 to 1.12. Last, it is compressed as a JPEG of quality 35 to
    75.

    Args:
        pixels: uint8 [H, W, 3] RGB.
        rng: generator of all random numbers.

    Returns:
        uint8 [h, w, 3] RGB.
    """
    height, width = pixels.shape[:2]
    size = np.array([width, height])
    kept = rng.uniform(*KEPT, 2) * size
    middle = size / 2 + rng.uniform(-0.5, 0.5, 2) * (size - kept)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * kept / 2
    corners += rng.uniform(-PERSPECTIVE, PERSPECTIVE, (4, 2)) * kept
    angle = np.radians(rng.uniform(-TURN, TURN))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    w, h = np.maximum(np.round(kept), 1).astype(int).tolist()
    to = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    matrix = cv2.getPerspectiveTransform((corners @ turn + middle).astype(np.float32), to)
    moved = cv2.warpPerspective(pixels, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    gains = rng.uniform(*CAST, 3) * rng.uniform(*BRIGHTNESS)
    lit = ((moved.astype(np.float32) - 128) * rng.uniform(*CONTRAST) + 128) * gains
    return _as_jpeg(lit.clip(0, 255).astype(np.uint8), int(rng.integers(*JPEG_QUALITY, endpoint=True)))


def unlike_view(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make a view with strong changes of kinds that `alike_view` does not make.

    A random part of 65 to 75 % of each side (about half of the area) is kept, and a rectangle of one colour covers a
    fifth of it. The values are raised to a power of 1.4 to 1.6 or its inverse, and the view is shrunk to a long side of
    112 pixels.

    Args:
        pixels: uint8 [H, W, 3] RGB.
        rng: generator of all random numbers.

    Returns:
        uint8 [h, w, 3] RGB, h and w at most 112.
    """
    height, width = pixels.shape[:2]
    w, h = (max(1, round(side * rng.uniform(*HARD_KEPT))) for side in (width, height))
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    part = pixels[y : y + h, x : x + w].copy()
    across = rng.uniform(COVERED**0.5 / 1.5, COVERED**0.5 * 1.5)  # share of the width; the height follows
    cover_w, cover_h = round(w * across), round(h * COVERED / across)
    left, top = int(rng.integers(w - cover_w + 1)), int(rng.integers(h - cover_h + 1))
    part[top : top + cover_h, left : left + cover_w] = rng.integers(0, 256, 3)
    gamma = rng.uniform(*GAMMA) ** rng.choice([-1, 1])
    part = np.round(255 * (part / 255) ** gamma).astype(np.uint8)
    return _shrunk(part, SMALL_SIDE)


@dataclass(frozen=True)
class _Photo:
    """The pixels of one row, uint8 [S, S, 3] by name (original, alike and unlike), or the error of its photo."""

    row: int
    pixels: dict[str, Pixels]
    digest: str = ""
    error: str = ""


def _load(folder: Path, images: Sequence[str], row: int, size: int, seed: int | None) -> _Photo:
    encoded = read_bytes(folder / images[row])
    pixels = {"original": crop(read_image(encoded, side=size), None, size).pixels}
    if seed is not None:
        rng = np.random.default_rng([seed, zlib.crc32(images[row].encode(errors="surrogateescape"))])
        photo = _shrunk(read_image(encoded, side=SIDE).pixels, SIDE)
        for view, make in (("alike", alike_view), ("unlike", unlike_view)):
            pixels[view] = resize(make(photo, rng), size)
    return _Photo(row, pixels, hashlib.sha256(encoded).hexdigest())


def _shrunk(pixels: Pixels, side: int) -> Pixels:
    """Shrink an image to a long side of at most `side` pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(width, height)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Compress an image as a JPEG and decode it again."""
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded_again = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded_again is not None  # it was encoded a line above
    return np.asarray(decoded_again[..., ::-1], np.uint8)
