"""A gallery's embeddings anew, by another model: into an epoch beside the one that serves, switched to at the end."""

from collections import deque
from collections.abc import Iterator
from itertools import groupby, islice
from time import monotonic
from typing import Any

from fashion_infer.errors import GalleryError
from fashion_infer.gallery.adding import LOOKED_UP, Job, Outcome, failures, finished
from fashion_infer.gallery.photos import Photo, read_ahead
from fashion_infer.gallery.rows import Facts, Row, path_of_text
from fashion_infer.gallery.store import Store
from fashion_infer.predictor import Predictor

SAMPLE = 32  # photos timed for the price


def rebuild(store: Store, predictor: Predictor, facts: Facts, *, prune: bool = False) -> Iterator[Outcome]:
    """Compute every row anew from its photo; a row that an earlier, killed rebuild has done is not done again.

    To be used inside `store.writing()`. The old rows serve until the last one is done, to other processes too.

    Args:
        store: of the gallery.
        predictor: of the new model.
        facts: what the gallery is bound to afterwards.
        prune: leave out rows whose photo can no longer be read.

    Raises:
        GalleryError: without `prune`, some photos cannot be read: the old rows go on serving.
    """
    epoch = store.begin_epoch(facts)
    failed = 0
    jobs = finished(predictor, _jobs(store, store.origins(epoch)))
    while some := list(islice(jobs, LOOKED_UP)):
        outcomes = [outcome for job in some for outcome in job.outcomes or ()]
        bad = {outcome.id for outcome in outcomes if outcome.status == "failed"}
        rows = [row for job in some for row in job.rows or () if row.id not in bad]
        numbers = {row.id: number for job in some for row, number in zip(job.before, job.numbers, strict=True)}
        store.write_epoch(epoch, [numbers[row.id] for row in rows], rows)
        failed += len(bad)
        yield from outcomes
    if failed and not prune:
        raise GalleryError(
            f"{failed} rows could not be computed anew, so the old ones go on serving: bring "
            "their photos back and run the same again, or leave these rows out with --prune"
        )
    store.switch_epoch(epoch)


def price(store: Store, predictor: Predictor, facts: Facts) -> tuple[int, float]:
    """How many rows a rebuild has yet to compute, and about how many seconds that takes. Inside `store.writing()`."""
    done = store.origins(store.begin_epoch(facts))
    start = monotonic()
    tried = sum(len(job.before) for job in islice(finished(predictor, _jobs(store, done)), SAMPLE))
    left = len(store) - len(done)
    return left, (monotonic() - start) / max(tried, 1) * left


def _jobs(store: Store, done: set[Any]) -> Iterator[Job]:
    """A job for each photo with rows that are not done yet."""
    waiting: deque[list[tuple[Any, Row]]] = deque()

    def photos() -> Iterator[Photo]:
        left = ((number, row) for number, row in store.numbered() if number not in done)
        for record, numbered in groupby(left, key=lambda pair: pair[1].record):
            waiting.append(list(numbered))
            yield _photo(record, [row for _, row in waiting[-1]])

    for photo in read_ahead(photos()):
        numbers, rows = zip(*waiting.popleft(), strict=True)
        job = Job(photo, list(rows), numbers=list(numbers))
        if photo.error is not None:
            job.outcomes = failures(job, photo.error)
        yield job


def _photo(record: str, rows: list[Row]) -> Photo:
    path = rows[0].path
    boxes = [row.asked for row in rows if row.asked is not None] or None
    photo = Photo(record, None if path is None else path_of_text(path), path, boxes, None, ids=[row.id for row in rows])
    if path is None:
        photo.error = GalleryError(f"{record} was not given as a path, so it cannot be computed anew")
    return photo
