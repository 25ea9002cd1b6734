"""Batches for training: augmented pictures, cut out by the same `preprocess.crop` as in deployment.

The batch of a step depends only on the seed and the step's number, not on the number of workers or on earlier steps.
A resumed run therefore gets the same batches that it would have got without the interruption.
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

WHOLE_PHOTO = 0.35  # share of samples for which strong augmentation uses the whole photo instead of the box
MAX_TURN = 25.0  # largest rotation by strong augmentation, degrees
MIRRORED_SLOTS = [1, 0, 3, 2, 5, 4, 7, 6]  # left and right landmarks swap slots in a mirrored picture

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Sample:
    """One training example, or the reason why its picture could not be read.

    Attributes:
        image: uint8 [S, S, 3] RGB; empty where `error` is set.
        landmarks: [8, 2] as (x, y), in [0, 1] inside the image.
        visibility: int8 [8], coded as in `Batch`.
        row: Row of the data set.
        error: Why the picture could not be used; None where it could.
    """

    image: Pixels
    landmarks: Floats
    visibility: NDArray[np.int8]
    row: int
    error: str | None = None


class Samples(Dataset[Sample]):
    """Training examples by (row, draw); the draw is a number that, with the seed and row, fixes the augmentation."""

    def __init__(self, data: FashionData, image_size: int, seed: int, *, strong: bool = False) -> None:
        self.data, self.image_size, self.seed, self.strong = data, image_size, seed, strong

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, draw = key
        rng = np.random.default_rng([self.seed, row, draw])
        path = self.data.image_root / str(self.data.images[row])
        label_box, points = self.data.box(row), self.data.landmarks[row]
        try:
            picture = read_image(path, side=self.image_size, boxes=None if label_box is None else [label_box])
            box: Floats = np.array([0, 0, picture.width, picture.height]) if label_box is None else label_box
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
    """The (row, draw) pairs of each batch from `first_step` up to `last_step`; every draw of a run has its own number.

    Rows without an item are visited once per shuffled epoch. If some rows have an item, half of each batch consists
    of pairs for the triplet loss: a picture and another one of the same item. If all rows have one, the whole batch
    does.
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
        """Return the rows of one batch."""
        singles, anchors = (self._next_rows(rows, count, step) for rows, count in self.parts)
        rng = np.random.default_rng([self.seed, step])
        return singles + [row for anchor in anchors for row in (anchor, self._partner(anchor, rng))]

    def _next_rows(self, rows: NDArray[np.int64], count: int, step: int) -> list[int]:
        """Return the `count` rows of a step from an endless sequence of shuffled epochs over `rows`."""
        if not len(rows):
            return []
        positions = range(step * count, (step + 1) * count)
        return [int(self._order(rows, position // len(rows))[position % len(rows)]) for position in positions]

    def _order(self, rows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Return the shuffled rows of an epoch; the last few orders are cached."""
        key = (int(rows[0]), epoch)
        if key not in self.orders:
            self.orders = dict(list(self.orders.items())[-3:])
            self.orders[key] = np.random.default_rng([self.seed, epoch, 1]).permutation(rows)
        return self.orders[key]

    def _partner(self, row: int, rng: np.random.Generator) -> int:
        """Return another row of the same item, or the same row, augmented differently, if the item has only one."""
        others = self.by_item[int(self.items[row])]
        others = others[others != row]
        return int(rng.choice(others)) if len(others) else row


class Loader:
    """Augmented batches of a training set; images that cannot be read are left out."""

    def __init__(self, data: FashionData, image_size: int, seed: int, workers: int, *, strong: bool = False) -> None:
        self.samples, self.workers = Samples(data, image_size, seed, strong=strong), workers
        self.skipped: dict[str, str] = {}  # image -> why it could not be used

    def batches(self, batch_size: int, first_step: int, last_step: int) -> Iterator[Batch]:
        """Yield one batch for each step from `first_step` up to `last_step`.

        Raises:
            DataError: None of the images of a batch can be read.
        """
        rows = TrainingRows(self.samples.data.items, batch_size, self.samples.seed, first_step, last_step)
        # With its own generator the loader does not draw from torch's global one, whose state a resumed run restores.
        loader = DataLoader(
            self.samples,
            batch_sampler=rows,
            num_workers=self.workers,
            collate_fn=list,
            worker_init_fn=start_worker,
            generator=torch.Generator(),
        )
        return self._readable(iter(loader))  # iter() starts the workers, before the caller starts any thread

    def _readable(self, sample_lists: Iterator[list[Sample]]) -> Iterator[Batch]:
        for samples in sample_lists:
            self.skipped |= {str(self.samples.data.images[s.row]): s.error for s in samples if s.error}
            readable = [sample for sample in samples if sample.error is None]
            if not readable:
                raise DataError(f"no image of a whole batch can be read, the first one: {samples[0].error}")
            yield self._collate(readable)

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
    """Limit a worker process to one OpenCV thread, and leave Ctrl-C to the main process."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def jitter_box(box: Floats, rng: np.random.Generator) -> Floats:
    """Move each side of a box (x1 y1 x2 y2, pixels) by up to a tenth of the box, to imitate a detector's errors."""
    width, height = box[2] - box[0], box[3] - box[1]
    return np.asarray(box + rng.uniform(-0.1, 0.1, 4) * [width, height, width, height])


def loosen_box(box: Floats, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Imitate a box drawn by a user: the whole photo, or each side up to 6 % further in or 20 % further out.

    Args:
        box: x1 y1 x2 y2 in pixels.
        size: Width and height of the photo, pixels.
        rng: Source of random numbers.
    """
    if rng.random() < WHOLE_PHOTO:
        return np.array([0, 0, *size], np.float64)
    width, height = box[2] - box[0], box[3] - box[1]
    outwards = rng.uniform(-0.06, 0.2, 4) * [width, height, width, height]
    return np.asarray(box + outwards * [-1, -1, 1, 1])


def turn(picture: Picture, box: Floats, points: Floats, rng: np.random.Generator) -> tuple[Picture, Floats, Floats]:
    """Rotate half of the photos about the centre of the box, and the box and landmarks (in photo pixels) with them."""
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
    # The new box encloses the rotated ellipse inside the old one; enclosing the rotated box would leave it too loose.
    half = np.hypot([(x2 - x1) * cos, (x2 - x1) * sin], [(y2 - y1) * sin, (y2 - y1) * cos]) / 2
    turned = dataclasses.replace(picture, pixels=np.asarray(pixels, np.uint8))
    return turned, np.concatenate([centre - half, centre + half]), (points - centre) @ matrix.T + centre


def spoil(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Change light, colours and focus at random, and sometimes cover part of the garment with a rectangle."""
    tinted, blurred, covered = rng.random(3) < (0.3, 0.15, 0.3)
    brightness, contrast, saturation = rng.uniform(0.6, 1.35), rng.uniform(0.7, 1.3), rng.uniform(0.4, 1.4)
    gains = rng.uniform(0.85, 1.15, 3) if tinted else np.ones(3)  # colour of the light
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
    """Change brightness, contrast and saturation at random, each by up to a fifth."""
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    colours = (grey + saturation * (image - grey) - 128) * contrast + 128
    return np.asarray((colours * brightness).clip(0, 255), np.uint8)


def mirror(image: Pixels, landmarks: Floats, visibility: NDArray[np.int8]) -> tuple[Pixels, Floats, NDArray[np.int8]]:
    """Flip a picture left to right and swap its left and right landmarks: left is the viewer's left."""
    mirrored = np.stack([1 - landmarks[:, 0], landmarks[:, 1]], 1)
    return np.ascontiguousarray(image[:, ::-1]), mirrored[MIRRORED_SLOTS], visibility[MIRRORED_SLOTS]


def cut_off(landmarks: Floats, visibility: NDArray[np.int8]) -> NDArray[np.int8]:
    """Mark landmarks outside the crop as truncated; slots that are absent or not labelled stay as they are."""
    outside = ((landmarks < 0) | (landmarks > 1)).any(1)
    return np.where(outside & (visibility >= 0), TRUNCATED, visibility).astype(np.int8)
