"""The report on own categories: accuracy, confusions and doubtful photos, written as JSON and a contact sheet."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fashion_infer.files import write_atomically
from fashion_infer.gallery.sheet import photo_sheet
from fashion_infer.training.none_of_these import NoneReport
from fashion_infer.training.own_labels import Photos
from fashion_infer.training.unfreezing import Unfrozen

DOUBTFUL = 10  # photos in the list of doubtful ones
Z = 1.96  # standard deviations on each side of a 95 % interval

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """Share of photos whose class was recognised, with its 95 % interval.

    Attributes:
        share: Share of recognised photos, in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
        photos: Number of photos.
        groups: Number of groups of near-duplicates; each group counts once in the interval.
    """

    share: float
    low: float
    high: float
    photos: int
    groups: int


@dataclass(frozen=True)
class Doubt:
    """A photo whose label is probably wrong, judged by a head that was not fitted on it.

    Attributes:
        image: Path of the photo.
        box: x1 y1 x2 y2 in pixels, None for the whole photo.
        label: The class that it is labelled with.
        guess: The most probable other class.
        score: Probability of the label, in [0, 1].
    """

    image: str
    box: list[float] | None
    label: str
    guess: str
    score: float


@dataclass(frozen=True)
class OwnReport:
    """What was learnt, and how well; every figure except `test` comes from cross-validation.

    Attributes:
        categories: Categories of the new model.
        from_model: The set's categories whose weights started from those of the original model.
        strength: Strength of the category head's penalty.
        temperature: Divisor of the logits before the softmax.
        accuracy: Accuracy over the photos.
        confusion: For each class, {predicted class: number of photos}.
        doubtful: The photos whose label is the least probable, the worst first.
        none: How well the garment score separates the classes from other things.
        attributes: Recall of the attributes among the three best, in [0, 1]; None if none was learnt.
        unfrozen: What training the later layers gained; None if that was not requested.
        test: Accuracy on the test folder; None without one.
        skipped: Images that could not be used, each with the reason.
        same_embedding: Whether galleries made with the original model still fit the new one.
        seconds: Duration of the training, seconds.
    """

    categories: tuple[str, ...]
    from_model: tuple[str, ...]
    strength: float
    temperature: float
    accuracy: Accuracy
    confusion: dict[str, dict[str, int]]
    doubtful: tuple[Doubt, ...]
    none: NoneReport
    attributes: float | None
    unfrozen: Unfrozen | None
    test: Accuracy | None
    skipped: dict[str, str]
    same_embedding: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain Python values, ready for JSON."""
        return asdict(self)

    def write(self, checkpoint: Path) -> None:
        """Write the report and the contact sheet of the doubtful photos beside a checkpoint.

        Raises:
            OutputError: A file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        write_atomically(report_place(checkpoint), lambda temporary: temporary.write_text(text))
        tiles = [
            (doubt.image, doubt.box, (f"{doubt.label}: {doubt.score:.0%}, or {doubt.guess}?", doubt.image))
            for doubt in self.doubtful
        ]
        sheet = photo_sheet(tiles)
        write_atomically(sheet_place(checkpoint), lambda temporary: sheet.save(temporary, "JPEG", quality=90))


def report_place(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's report."""
    return checkpoint.with_suffix(".report.json")


def sheet_place(checkpoint: Path) -> Path:
    """Return the path of the contact sheet of a checkpoint's doubtful photos."""
    return checkpoint.with_suffix(".doubtful.jpg")


def accuracy_of(logits: Floats, labels: Ints, groups: Ints) -> Accuracy:
    """Compute the share of right answers and its Wilson score interval (1927), with near-duplicates counted once.

    Args:
        logits: [N, C], logits of the classes.
        labels: int64 [N], class numbers.
        groups: int64 [N], the same number for all near-duplicates.
    """
    share = float((logits.argmax(1) == labels).mean())
    count = len(np.unique(groups))
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return Accuracy(share, max(0.0, middle - half), min(1.0, middle + half), len(labels), count)


def confusion_of(logits: Floats, labels: Ints, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Count the answers for each class: {class: {predicted class: number of photos}}, the most frequent first."""
    guesses = logits.argmax(1)
    result = {}
    for label in np.unique(labels):
        counts = np.bincount(guesses[labels == label], minlength=len(names))
        order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
        result[names[label]] = {names[place]: int(counts[place]) for place in order}
    return result


def doubts_of(logits: Floats, photos: Photos, names: tuple[str, ...]) -> tuple[Doubt, ...]:
    """Return the photos whose label is the least probable, the worst first.

    Args:
        logits: [N, C], divided by the temperature.
        photos: The N photos.
        names: Names of the C classes.
    """
    shares = softmax(logits, axis=1)
    rows = np.arange(len(shares))
    own = shares[rows, photos.labels]
    shares[rows, photos.labels] = -1  # the guess must be another class
    doubts = []
    for row in np.argsort(own, kind="stable")[:DOUBTFUL].tolist():
        box = photos.data.box(row)
        label, guess = names[photos.labels[row]], names[int(shares[row].argmax())]
        corners = None if box is None else box.tolist()
        doubts.append(Doubt(str(photos.path(row)), corners, label, guess, float(own[row])))
    return tuple(doubts)
