"""Batches for training: images through the same `preprocess.crop` as in deployment, after augmenting.

What a step sees depends on the seed and its number alone, not on workers or on what ran before: a resumed run
continues with the very batches that it would have seen.
"""

import dataclasses
import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from fashion_infer.data.deepfashion import FashionData
from fashion_infer.errors import DataError, ImageError
from fashion_infer.images import Picture, Pixels, read_image
from fashion_infer.preprocess import crop
from fashion_infer.training.losses import TRUNCATED, Batch

WHOLE_PHOTO = 0.35  # share of the crops of strong augmentation that are not cropped
MAX_TURN = 25.0  # degrees
MIRRORED_SLOTS = [1, 0, 3, 2, 5, 4, 7, 6]  # left and right landmarks trade places in a mirrored picture

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Sample:
    """One row of a Batch, or the reason why there is none."""

    image: Pixels
    landmarks: Floats
    visibility: NDArray[np.int8]
    row: int
    error: str | None = None


class Samples(Dataset[Sample]):
    """Reads (row, draw) pairs: the picture of a row, augmented as the number of the draw says."""

    def __init__(self, data: FashionData, image_size: int, seed: int, *, strong: bool = False) -> None:
        self.data, self.image_size, self.seed, self.strong = data, image_size, seed, strong

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, draw = key
        rng = np.random.default_rng([self.seed, row, draw])
        path = self.data.image_root / str(self.data.images[row])
        labelled, points = self.data.box(row), self.data.landmarks[row]
        try:
            picture = read_image(path, side=self.image_size, boxes=None if labelled is None else [labelled])
            box: Floats = np.array([0, 0, picture.width, picture.height]) if labelled is None else labelled
            if self.strong:
                picture, box, points = turn(picture, box, points, rng)
                box = loosen_box(box, (picture.width, picture.height), rng)
            else:
                box = jitter_box(box, rng)
            cut = crop(picture, box, self.image_size)
        except ImageError as error:
            return Sample(np.empty((0, 0, 3), np.uint8), np.empty((0, 2)), np.empty(0, np.int8), row, str(error))
        landmarks = cut.from_image(points)
        visibility = cut_off(landmarks, self.data.visibility[row])
        image = spoil(cut.pixels, rng) if self.strong else jitter_colours(cut.pixels, rng)
        if rng.random() < 0.5:
            image, landmarks, visibility = mirror(image, landmarks, visibility)
        return Sample(image, landmarks, visibility, row)


class TrainingRows:
    """The (row, draw) pairs of each batch from `first_step` on; no two draws of a run have the same number.

    Rows of no known item are passed over in shuffled epochs. Where there are items, half of the batch (all of it, where
    there is nothing else) is pairs: a picture and another one of the same item, for the triplet loss.
    """

    def __init__(self, items: NDArray[np.int32], batch_size: int, seed: int, first_step: int, last_step: int) -> None:
        self.seed, self.steps = seed, range(first_step, last_step)
        single, paired = np.flatnonzero(items < 0), np.flatnonzero(items >= 0)
        pairs = 0 if not len(paired) else batch_size // 4 if len(single) else batch_size // 2
        self.parts = [(single, batch_size - 2 * pairs), (paired, pairs)]
        self.batch_size, self.items = batch_size, items
        by_item = paired[np.argsort(items[paired], kind="stable")]
        numbers, starts = np.unique(items[by_item], return_index=True)
        self.by_item = dict(zip(numbers.tolist(), np.split(by_item, starts[1:]), strict=True)) if len(paired) else {}
        self.orders: dict[tuple[int, int], NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield [(row, step * self.batch_size + place) for place, row in enumerate(self.rows_at(step))]

    def rows_at(self, step: int) -> list[int]:
        """The rows of one batch."""
        singles, anchors = (self._take(rows, count, step) for rows, count in self.parts)
        rng = np.random.default_rng([self.seed, step])
        return singles + [row for anchor in anchors for row in (anchor, self._partner(anchor, rng))]

    def _take(self, rows: NDArray[np.int64], count: int, step: int) -> list[int]:
        """The next `count` of the endless sequence of shuffled epochs over `rows`."""
        if not len(rows):
            return []
        positions = range(step * count, (step + 1) * count)
        return [int(self._order(rows, position // len(rows))[position % len(rows)]) for position in positions]

    def _order(self, rows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """The order of an epoch; the last few are kept."""
        key = (int(rows[0]), epoch)
        if key not in self.orders:
            self.orders = dict(list(self.orders.items())[-3:])
            self.orders[key] = np.random.default_rng([self.seed, epoch, 1]).permutation(rows)
        return self.orders[key]

    def _partner(self, row: int, rng: np.random.Generator) -> int:
        """Another picture of the same item, or the same one (differently augmented) where it is alone."""
        others = self.by_item[int(self.items[row])]
        others = others[others != row]
        return int(rng.choice(others)) if len(others) else row


class Loader:
    """Augmented batches of a training set; broken images are left out."""

    def __init__(self, data: FashionData, image_size: int, seed: int, workers: int, *, strong: bool = False) -> None:
        self.samples, self.workers = Samples(data, image_size, seed, strong=strong), workers
        self.skipped: dict[str, str] = {}  # image -> why it could not be used

    def batches(self, batch_size: int, first_step: int, last_step: int) -> Iterator[Batch]:
        """One batch a step.

        Raises:
            DataError: not one image of a batch can be read.
        """
        rows = TrainingRows(self.samples.data.items, batch_size, self.samples.seed, first_step, last_step)
        # a generator of its own: the loader would take a number of the one that a resumed run restores
        loader = DataLoader(
            self.samples,
            batch_sampler=rows,
            num_workers=self.workers,
            collate_fn=list,
            worker_init_fn=start_worker,
            generator=torch.Generator(),
        )
        return self._good(iter(loader))  # now: workers are started before the caller starts threads

    def _good(self, loaded: Iterator[list[Sample]]) -> Iterator[Batch]:
        for samples in loaded:
            self.skipped |= {str(self.samples.data.images[s.row]): s.error for s in samples if s.error}
            good = [sample for sample in samples if sample.error is None]
            if not good:
                raise DataError(f"no image of a whole batch can be read, the first one: {samples[0].error}")
            yield self._collate(good)

    def _collate(self, samples: list[Sample]) -> Batch:
        data, rows = self.samples.data, [sample.row for sample in samples]
        return Batch(
            images=torch.from_numpy(np.stack([s.image for s in samples])),
            landmarks=torch.from_numpy(np.stack([s.landmarks for s in samples]).astype(np.float32)),
            visibility=torch.from_numpy(np.stack([s.visibility for s in samples]).astype(np.int64)),
            categories=torch.from_numpy(data.categories[rows].astype(np.int64)),
            attributes=torch.from_numpy(data.attributes[rows]),
            items=torch.from_numpy(data.items[rows].astype(np.int64)),
            rows=torch.tensor(rows),
        )


def start_worker(number: int) -> None:
    """One thread a worker, and Ctrl-C is left to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def jitter_box(box: Floats, rng: np.random.Generator) -> Floats:
    """Move each side by up to a tenth of the box, as a detector would."""
    width, height = box[2] - box[0], box[3] - box[1]
    return np.asarray(box + rng.uniform(-0.1, 0.1, 4) * [width, height, width, height])


def loosen_box(box: Floats, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A box as users draw it: the whole photo, or each side a little further in or a good deal further out."""
    if rng.random() < WHOLE_PHOTO:
        return np.array([0, 0, *size], np.float64)
    width, height = box[2] - box[0], box[3] - box[1]
    outwards = rng.uniform(-0.06, 0.2, 4) * [width, height, width, height]
    return np.asarray(box + outwards * [-1, -1, 1, 1])


def turn(picture: Picture, box: Floats, points: Floats, rng: np.random.Generator) -> tuple[Picture, Floats, Floats]:
    """Turn half of the photos about the middle of the garment, with its box and landmarks (pixels of the photo)."""
    if rng.random() < 0.5:
        return picture, box, points
    angle = float(rng.uniform(-MAX_TURN, MAX_TURN))
    (x1, y1, x2, y2), radians = box, math.radians(angle)
    centre = np.array([x1 + x2, y1 + y2]) / 2
    cos, sin = math.cos(radians), math.sin(radians)
    matrix = np.array([[cos, sin], [-sin, cos]])
    scale = picture.pixels.shape[1] / picture.width
    affine = cv2.getRotationMatrix2D((float(centre[0] * scale), float(centre[1] * scale)), angle, 1.0)
    height, width = picture.pixels.shape[:2]
    pixels = cv2.warpAffine(picture.pixels, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    half = np.hypot([(x2 - x1) * cos, (x2 - x1) * sin], [(y2 - y1) * sin, (y2 - y1) * cos]) / 2  # of an ellipse
    turned = dataclasses.replace(picture, pixels=np.asarray(pixels, np.uint8))
    return turned, np.concatenate([centre - half, centre + half]), (points - centre) @ matrix.T + centre


def spoil(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Other light, colours and focus, and something in front of the garment."""
    tinted, blurred, covered = rng.random(3) < (0.3, 0.15, 0.3)
    brightness, contrast, saturation = rng.uniform(0.6, 1.35), rng.uniform(0.7, 1.3), rng.uniform(0.4, 1.4)
    gains = rng.uniform(0.85, 1.15, 3) if tinted else np.ones(3)  # the lamp's colour
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    light = (grey + saturation * (image - grey) - 128) * contrast + 128
    spoilt = np.asarray((light * (brightness * gains)).clip(0, 255), np.uint8)
    if blurred:
        spoilt = np.asarray(cv2.GaussianBlur(spoilt, (0, 0), float(rng.uniform(0.5, 1.5))), np.uint8)
    if covered:
        side = len(image)
        width, height = rng.uniform(0.08, 0.35, 2) * side
        x, y = rng.uniform(0, side - width), rng.uniform(0, side - height)
        spoilt[int(y) : int(y + height), int(x) : int(x + width)] = rng.integers(0, 256, 3)
    return spoilt


def jitter_colours(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each by up to a fifth."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    colours = (grey + saturation * (image - grey) - 128) * contrast + 128
    return np.asarray((colours * brightness).clip(0, 255), np.uint8)


def mirror(image: Pixels, landmarks: Floats, visibility: NDArray[np.int8]) -> tuple[Pixels, Floats, NDArray[np.int8]]:
    """Flip left and right; the left and right landmarks trade slots, since left is the viewer's."""
    mirrored = np.stack([1 - landmarks[:, 0], landmarks[:, 1]], 1)
    return np.ascontiguousarray(image[:, ::-1]), mirrored[MIRRORED_SLOTS], visibility[MIRRORED_SLOTS]


def cut_off(landmarks: Floats, visibility: NDArray[np.int8]) -> NDArray[np.int8]:
    """A landmark that the crop leaves out is truncated, whatever it was in the photo; what was none stays so."""
    outside = ((landmarks < 0) | (landmarks > 1)).any(1)
    return np.where(outside & (visibility >= 0), TRUNCATED, visibility).astype(np.int8)
