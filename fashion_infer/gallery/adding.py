"""Adding photos: what is unchanged is skipped, the rest goes through the network and is written in transactions.

photos -> read ahead, hashed -> compared with the rows there are -> network -> rows, written some hundred at once
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from fashion_infer.errors import FashionInferError, ImageError, UsageError
from fashion_infer.gallery.database import joined_kinds
from fashion_infer.gallery.photos import Photo, read_ahead, recognised
from fashion_infer.gallery.rows import Row, row_of
from fashion_infer.gallery.store import Store
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor

ROWS, SECONDS = 500, 2.0  # of one transaction, at most
LOOKED_UP = 32  # photos compared with the store at once
SKIPPED_IN_A_ROW = 500  # photos without work for the network, after which it is let run empty and they are reported


class Outcome(NamedTuple):
    """What became of one garment; `error` says why it failed."""

    id: str
    status: str  # added, replaced, unchanged or failed
    error: FashionInferError | None = None


@dataclass
class AddReport:
    """What became of the garments of one call, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, status: str) -> int:
        """How many were added, replaced, unchanged or failed."""
        return self._counts[status]

    @property
    def _counts(self) -> Counter[str]:
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def added(self) -> int:
        """Rows that are new."""
        return self.count("added")

    @property
    def replaced(self) -> int:
        """Rows that took the place of an earlier one of their id."""
        return self.count("replaced")

    @property
    def unchanged(self) -> int:
        """Rows that were there already."""
        return self.count("unchanged")

    @property
    def failed(self) -> list[Outcome]:
        """Those that could not be added, each with its error."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def __repr__(self) -> str:
        return "AddReport(" + ", ".join(f"{status}={count}" for status, count in self._counts.items()) + ")"


@dataclass
class Job:
    """A photo and what is to be done about it.

    Attributes:
        photo: read and hashed.
        before: its rows so far.
        outcomes: set when nothing needs the network.
        rows: to be written in place of `before`; None where nothing is to be written.
        numbers: the marks of the rows of `before`, for a rebuild.
    """

    photo: Photo
    before: list[Row]
    outcomes: list[Outcome] | None = None
    rows: list[Row] | None = None
    numbers: list[Any] = field(default_factory=list)


def add(store: Store, predictor: Predictor, photos: Iterable[Photo]) -> Iterator[Outcome]:
    """Add photos; an outcome comes once its row is safe on the disk. To be used inside `store.writing()`.

    When the photos, the network or the caller break off, what was computed so far is written before the error goes on.
    """
    broken: list[Exception] = []

    def until_broken() -> Iterator[Photo]:
        try:
            yield from photos
        except Exception as error:  # of the caller's iterable: what it gave before is added first
            broken.append(error)

    pending: list[Job] = []
    rows, deadline = 0, monotonic() + SECONDS
    try:
        for job in finished(predictor, planned(store, until_broken())):
            pending.append(job)
            rows += len(job.rows or ())
            if rows >= ROWS or monotonic() > deadline:
                yield from _written(store, pending)
                pending, rows, deadline = [], 0, monotonic() + SECONDS
    except BaseException:
        _write(store, pending)
        raise
    yield from _written(store, pending)
    if broken:
        raise broken[0]


def planned(store: Store, photos: Iterable[Photo]) -> Iterator[Job]:
    """The photos, read and compared with the store: what has `outcomes` needs no network."""
    seen: set[int] = set()
    kinds = dict(store.kinds)
    photos = read_ahead(photos)
    while some := list(islice(photos, LOOKED_UP)):
        before: dict[str, list[Row]] = {}
        for row in store.get([photo.id for photo in some], by="record"):
            before.setdefault(row.record, []).append(row)
        for photo in some:
            job = Job(photo, before.get(photo.id, []))
            try:
                if photo.error is not None:
                    raise photo.error
                if (key := hash(photo.id)) in seen:  # 64 bits of it: a million ids in a hundredth of a gigabyte
                    raise UsageError(f"the id {photo.id!r} came before in the same call: give each photo its own")
                seen.add(key)
                kinds = joined_kinds(kinds, [photo.columns or {}])
            except FashionInferError as error:
                job.outcomes = failures(job, error)
            else:
                _skip_known(job)
            if job.outcomes is not None:
                photo.source = None  # the bytes are not needed any more
            yield job


def _skip_known(job: Job) -> None:
    """Take the rows there are where photo and boxes are the same, with the user's columns as they are now."""
    photo, before = job.photo, job.before
    asked = [None] if photo.boxes is None else list(photo.boxes)
    if [row.asked for row in before] != asked or any(row.content_hash != photo.content_hash for row in before):
        return
    if photo.columns is None or all(row.columns == photo.columns for row in before):
        job.outcomes = [Outcome(row.id, "unchanged") for row in before]
    else:
        job.rows = [replace(row, columns=photo.columns) for row in before]
        job.outcomes = [Outcome(row.id, "replaced") for row in before]


def finished(predictor: Predictor, jobs: Iterator[Job]) -> Iterator[Job]:
    """The jobs in order with their outcomes; those that need the network go through it as one stream.

    The stream reads ahead of its results, so a long stretch of photos without work ends it: they are reported, and the
    next stream begins after them.
    """
    waiting: deque[Job] = deque()

    def with_work() -> Iterator[Photo]:
        idle = 0
        for job in jobs:
            waiting.append(job)
            idle = idle + 1 if job.outcomes is not None else 0
            if job.outcomes is None:
                yield job.photo
            elif idle == SKIPPED_IN_A_ROW:
                return

    while True:
        for _, predictions in recognised(predictor, with_work()):
            while waiting[0].outcomes is not None:
                yield waiting.popleft()
            job = waiting.popleft()
            _finish(job, predictions)
            yield job
        if not waiting:
            return
        yield from waiting
        waiting.clear()


def _finish(job: Job, predictions: list[Prediction]) -> None:
    photo = job.photo
    earlier = {row.id: row for row in job.before}
    kept = job.before[0].columns if job.before else {}
    boxes = [None] if photo.boxes is None else photo.boxes
    job.rows, job.outcomes = [], []
    for id, box, prediction in zip(photo.row_ids(), boxes, predictions, strict=True):
        try:
            if prediction.error is not None:
                raise prediction.error
            row = row_of(
                prediction,
                id=id,
                record=photo.id,
                path=photo.path,
                asked=box,
                content_hash=photo.content_hash,
                columns=photo.columns if photo.columns is not None else earlier[id].columns if id in earlier else kept,
            )
        except (FashionInferError, ValueError) as error:
            job.outcomes.append(Outcome(id, "failed", _named(photo, error)))
            if id in earlier:  # what could be read once is better than nothing
                job.rows.append(earlier[id])
        else:
            job.rows.append(row)
            job.outcomes.append(Outcome(id, "replaced" if id in earlier else "added"))
    photo.source = None


def failures(job: Job, error: FashionInferError) -> list[Outcome]:
    """The outcomes of a photo that cannot be used."""
    return [Outcome(id, "failed", _named(job.photo, error)) for id in job.photo.row_ids()]


def _named(photo: Photo, error: Exception) -> FashionInferError:
    name = photo.path or photo.id
    text = str(error)
    if isinstance(error, FashionInferError) and (not name or name in text):
        return error
    kind = type(error) if isinstance(error, FashionInferError) else ImageError
    return kind(f"{name}: {text.removeprefix('the image ')}")


def _written(store: Store, jobs: list[Job]) -> list[Outcome]:
    _write(store, jobs)
    return [outcome for job in jobs for outcome in job.outcomes or ()]


def _write(store: Store, jobs: list[Job]) -> None:
    changed = [job for job in jobs if job.rows is not None]
    if changed:
        store.write([job.photo.id for job in changed], [row for job in changed for row in job.rows or ()])


def estimate(predictor: Predictor, jobs: Iterable[Job], sample: int = 32) -> tuple[Counter[str], float]:
    """What adding would do, without doing it.

    Returns:
        How many garments are "new", "changed", "unchanged" and "failed", and about how many seconds the network would
        take, from a timed run over the first few of them.
    """
    counts: Counter[str] = Counter()
    tried: list[Photo] = []
    for job in jobs:
        if job.outcomes is None:
            counts["changed" if job.before else "new"] += len(job.photo.row_ids())
            tried += [job.photo] if len(tried) < sample else []
            if job.photo not in tried:
                job.photo.source = None
        else:
            for outcome in job.outcomes:
                counts["changed" if outcome.status == "replaced" else outcome.status] += 1
    start = monotonic()
    rows = sum(len(predictions) for _, predictions in islice(recognised(predictor, iter(tried)), sample))
    seconds = (monotonic() - start) / max(rows, 1) * (counts["new"] + counts["changed"])
    return counts, seconds
