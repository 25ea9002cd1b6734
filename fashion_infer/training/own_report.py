"""How well own categories were learnt: accuracy, confusions, doubtful photos; as JSON and a contact sheet."""

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

DOUBTFUL = 10
Z = 1.96  # of a 95 % interval

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """Share of photos whose class was recognised, in [0, 1], with its 95 % interval.

    Attributes:
        share: of them.
        low: end of the interval.
        high: likewise.
        photos: how many there were.
        groups: how many of them show different things: near-duplicates count once in the interval.
    """

    share: float
    low: float
    high: float
    photos: int
    groups: int


@dataclass(frozen=True)
class Doubt:
    """A photo whose label the rest of the photos speak against.

    Attributes:
        image: its path.
        box: x1 y1 x2 y2 in pixels, None for the whole photo.
        label: the class that it lies in.
        guess: the class that it looks like.
        score: the probability of its label, in [0, 1].
    """

    image: str
    box: list[float] | None
    label: str
    guess: str
    score: float


@dataclass(frozen=True)
class OwnReport:
    """What was taught, and how well it was learnt; by cross-validation, unless it says test.

    Attributes:
        categories: of the model now.
        from_model: those of them whose rows started from the model's.
        strength: of the head's penalty.
        temperature: of the probabilities.
        accuracy: over the photos.
        confusion: {class: {what it was called: how many of its photos}}.
        doubtful: the photos whose label is the least likely, the worst first.
        none: how well the score tells the classes from other things.
        attributes: recall among the best three of all attributes, None where none was learnt.
        unfrozen: what training the network on brought, None where it was not asked for.
        test: accuracy on the test folder, None without one.
        skipped: images that could not be used -> why.
        same_embedding: whether galleries of the model that was started from still fit.
        seconds: that it took.
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
        """Plain Python values, ready for JSON."""
        return asdict(self)

    def write(self, checkpoint: Path) -> None:
        """Write the report and the contact sheet of the doubtful photos beside a checkpoint.

        Raises:
            OutputError: a file cannot be written.
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
    """Where the report of a checkpoint lies."""
    return checkpoint.with_suffix(".report.json")


def sheet_place(checkpoint: Path) -> Path:
    """Where the contact sheet of a checkpoint's doubtful photos lies."""
    return checkpoint.with_suffix(".doubtful.jpg")


def accuracy_of(logits: Floats, labels: Ints, groups: Ints) -> Accuracy:
    """The share of right answers and Wilson's interval (1927) of it, in which near-duplicates count once.

    Args:
        logits: [N, C].
        labels: [N].
        groups: [N], a number that near-duplicates share.
    """
    share = float((logits.argmax(1) == labels).mean())
    count = len(np.unique(groups))
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return Accuracy(share, max(0.0, middle - half), min(1.0, middle + half), len(labels), count)


def confusion_of(logits: Floats, labels: Ints, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """{class: {what it was called: how many of its photos}}, the most frequent answer first."""
    guesses = logits.argmax(1)
    result = {}
    for label in np.unique(labels):
        counts = np.bincount(guesses[labels == label], minlength=len(names))
        order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
        result[names[label]] = {names[place]: int(counts[place]) for place in order}
    return result


def doubts_of(logits: Floats, photos: Photos, names: tuple[str, ...]) -> tuple[Doubt, ...]:
    """The photos whose label is the least likely.

    Args:
        logits: [N, C], divided by the temperature.
        photos: N of them.
        names: of the C classes.
    """
    shares = softmax(logits, axis=1)
    rows = np.arange(len(shares))
    own = shares[rows, photos.labels]
    shares[rows, photos.labels] = -1  # the guess is another class
    doubts = []
    for row in np.argsort(own, kind="stable")[:DOUBTFUL].tolist():
        box = photos.data.box(row)
        label, guess = names[photos.labels[row]], names[int(shares[row].argmax())]
        corners = None if box is None else box.tolist()
        doubts.append(Doubt(str(photos.path(row)), corners, label, guess, float(own[row])))
    return tuple(doubts)
