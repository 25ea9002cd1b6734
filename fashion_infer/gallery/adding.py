"""Adding photos to a gallery: unchanged photos are skipped, the others are predicted and written in transactions.

photos -> read ahead and hashed -> compared with the stored rows -> network -> rows, written a few hundred at a time
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

ROWS, SECONDS = 500, 2.0  # largest size and longest time of one transaction
LOOKED_UP = 32  # photos that are compared with the store at once
SKIPPED_IN_A_ROW = 500  # after so many photos that need no network, its stream ends and they are reported


class Outcome(NamedTuple):
    """The result of adding one garment; `error` says why it failed."""

    id: str
    status: str  # "added", "replaced", "unchanged" or "failed"
    error: FashionInferError | None = None


@dataclass
class AddReport:
    """The results of one call, one for each garment, in their order."""

    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, status: str) -> int:
        """Number of garments with this status: "added", "replaced", "unchanged" or "failed"."""
        return self._counts[status]

    @property
    def _counts(self) -> Counter[str]:
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def added(self) -> int:
        """Number of new rows."""
        return self.count("added")

    @property
    def replaced(self) -> int:
        """Number of rows that replaced an earlier row with the same id."""
        return self.count("replaced")

    @property
    def unchanged(self) -> int:
        """Number of rows that were already stored and did not change."""
        return self.count("unchanged")

    @property
    def failed(self) -> list[Outcome]:
        """Garments that could not be added, each with its error."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def __repr__(self) -> str:
        return "AddReport(" + ", ".join(f"{status}={count}" for status, count in self._counts.items()) + ")"


@dataclass
class Job:
    """A photo and the work that it needs.

    Attributes:
        photo: the photo, read and hashed.
        before: the photo's rows that are stored now.
        outcomes: the results; None while the photo has to go through the network.
        rows: rows that replace `before`; None if nothing has to be written.
        numbers: for a rebuild, the identifiers of the rows in `before` (see `Store.numbered`).
    """

    photo: Photo
    before: list[Row]
    outcomes: list[Outcome] | None = None
    rows: list[Row] | None = None
    numbers: list[Any] = field(default_factory=list)


def add(store: Store, predictor: Predictor, photos: Iterable[Photo]) -> Iterator[Outcome]:
    """Add photos, inside `store.writing()`; each outcome is yielded once its row is safe on the disk.

    If the photos, the network or the caller raise an error, the rows computed so far are written before it propagates.
    """
    broken: list[Exception] = []

    def until_broken() -> Iterator[Photo]:
        try:
            yield from photos
        except Exception as error:  # from the caller's iterable: the photos that it yielded before are added first
            broken.append(error)

    pending: list[Job] = []
    rows, deadline = 0, monotonic() + SECONDS
    try:
        for job in finished(predictor, planned(store, until_broken())):
            pending.append(job)
            rows += len(job.rows or ())
            if rows >= ROWS or monotonic() > deadline:
                yield from _write_and_report(store, pending)
                pending, rows, deadline = [], 0, monotonic() + SECONDS
    except BaseException:
        _write(store, pending)
        raise
    yield from _write_and_report(store, pending)
    if broken:
        raise broken[0]


def planned(store: Store, photos: Iterable[Photo]) -> Iterator[Job]:
    """Read the photos and compare them with the store; a job that has `outcomes` needs no network."""
    seen: set[int] = set()
    kinds = dict(store.kinds)
    photos = read_ahead(photos)
    while batch := list(islice(photos, LOOKED_UP)):
        before: dict[str, list[Row]] = {}
        for row in store.get([photo.id for photo in batch], by="record"):
            before.setdefault(row.record, []).append(row)
        for photo in batch:
            job = Job(photo, before.get(photo.id, []))
            try:
                if photo.error is not None:
                    raise photo.error
                if (key := hash(photo.id)) in seen:  # 64-bit hashes take much less memory than a million ids
                    raise UsageError(f"the id {photo.id!r} occurs twice in the same call: give each photo its own")
                seen.add(key)
                kinds = joined_kinds(kinds, [photo.columns or {}])
            except FashionInferError as error:
                job.outcomes = failures(job, error)
            else:
                _reuse_rows(job)
            if job.outcomes is not None:
                photo.source = None  # frees the bytes
            yield job


def _reuse_rows(job: Job) -> None:
    """If photo and boxes are unchanged, reuse the stored rows with the user's new columns, without the network."""
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
    """Complete the jobs and yield them in order; those that need the network go through it as one stream.

    The stream reads ahead of its results. A long run of photos that need no network therefore ends the stream, so that
    they are reported without delay; the next stream begins after them.
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
                asked=None if isinstance(box, ImageError) else box,
                content_hash=photo.content_hash,
                columns=photo.columns if photo.columns is not None else earlier[id].columns if id in earlier else kept,
            )
        except (FashionInferError, ValueError) as error:
            job.outcomes.append(Outcome(id, "failed", _named(photo, error)))
            if id in earlier:  # a failure must not lose the stored row
                job.rows.append(earlier[id])
        else:
            job.rows.append(row)
            job.outcomes.append(Outcome(id, "replaced" if id in earlier else "added"))
    photo.source = None


def failures(job: Job, error: FashionInferError) -> list[Outcome]:
    """Return a failed outcome for each row of a photo that cannot be used."""
    return [Outcome(id, "failed", _named(job.photo, error)) for id in job.photo.row_ids()]


def _named(photo: Photo, error: Exception) -> FashionInferError:
    """Make the error's message name the photo."""
    name = photo.path or photo.id
    text = str(error)
    if isinstance(error, FashionInferError) and (not name or name in text):
        return error
    kind = type(error) if isinstance(error, FashionInferError) else ImageError
    return kind(f"{name}: {text.removeprefix('the image ')}")


def _write_and_report(store: Store, jobs: list[Job]) -> list[Outcome]:
    _write(store, jobs)
    return [outcome for job in jobs for outcome in job.outcomes or ()]


def _write(store: Store, jobs: list[Job]) -> None:
    changed = [job for job in jobs if job.rows is not None]
    if changed:
        store.write([job.photo.id for job in changed], [row for job in changed for row in job.rows or ()])


def estimate(predictor: Predictor, jobs: Iterable[Job], sample: int = 32) -> tuple[Counter[str], float]:
    """Estimate what adding would do, without doing it.

    Args:
        predictor: predictor that would compute the embeddings.
        jobs: jobs as `planned` yields them.
        sample: greatest number of photos in the timed run.

    Returns:
        The numbers of garments that are "new", "changed", "unchanged" and "failed", and roughly the seconds that the
        network would take for the new and changed ones, from a timed run over the first few of them.
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
