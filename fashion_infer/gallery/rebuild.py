"""Computing a gallery's embeddings again with another model, in a new epoch that replaces the old one at the end."""

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

SAMPLE = 32  # photos that are timed for the estimate


def rebuild(store: Store, predictor: Predictor, facts: Facts, *, prune: bool = False) -> Iterator[Outcome]:
    """Compute every row again from its photo, except those that an earlier, interrupted rebuild has computed.

    Call this inside `store.writing()`. Until the last row is computed, all processes search the old rows.

    Args:
        store: the gallery's store.
        predictor: predictor with the new model.
        facts: embedding space and model that the gallery is bound to afterwards.
        prune: whether to leave out rows whose photo can no longer be read.

    Raises:
        GalleryError: some photos cannot be read, and `prune` is False. The old rows are still searched.
    """
    epoch = store.begin_epoch(facts)
    failed = 0
    jobs = finished(predictor, _jobs(store, store.origins(epoch)))
    while batch := list(islice(jobs, LOOKED_UP)):
        outcomes = [outcome for job in batch for outcome in job.outcomes or ()]
        bad = {outcome.id for outcome in outcomes if outcome.status == "failed"}
        rows = [row for job in batch for row in job.rows or () if row.id not in bad]
        numbers = {row.id: number for job in batch for row, number in zip(job.before, job.numbers, strict=True)}
        store.write_epoch(epoch, [numbers[row.id] for row in rows], rows)
        failed += len(bad)
        yield from outcomes
    if failed and not prune:
        raise GalleryError(
            f"{failed} rows could not be computed again, so the gallery keeps its old embeddings: restore "
            "the photos and run the same command again, or leave these rows out with --prune"
        )
    store.switch_epoch(epoch)


def price(store: Store, predictor: Predictor, facts: Facts) -> tuple[int, float]:
    """Estimate a rebuild: the number of rows still to compute, and roughly the seconds that they take.

    Call this inside `store.writing()`.
    """
    done = store.origins(store.begin_epoch(facts))
    start = monotonic()
    timed = sum(len(job.before) for job in islice(finished(predictor, _jobs(store, done)), SAMPLE))
    remaining = len(store) - len(done)
    return remaining, (monotonic() - start) / max(timed, 1) * remaining


def _jobs(store: Store, done: set[Any]) -> Iterator[Job]:
    """Yield a job for each photo with rows that are not computed yet."""
    waiting: deque[list[tuple[Any, Row]]] = deque()

    def photos() -> Iterator[Photo]:
        remaining = ((number, row) for number, row in store.numbered() if number not in done)
        for record, numbered in groupby(remaining, key=lambda pair: pair[1].record):
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
        photo.error = GalleryError(f"{record} was not added as a path, so its embedding cannot be computed again")
    return photo
