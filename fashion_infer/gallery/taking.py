"""Adding rows with their embeddings from Parquet files; this needs no model."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fashion_infer.errors import FashionInferError, GalleryMismatchError
from fashion_infer.gallery.adding import ROWS, Outcome
from fashion_infer.gallery.database import joined_kinds
from fashion_infer.gallery.parquet import facts_in, rows_in, same
from fashion_infer.gallery.rows import Row
from fashion_infer.gallery.store import Store


def take(store: Store, source: Path) -> Iterator[Outcome]:
    """Add the rows of a Parquet file or folder by their ids, inside `store.writing()`; unchanged rows are skipped.

    Raises:
        UsageError: the source is no file of embeddings.
        GalleryMismatchError: its embeddings belong to another space than the store's.
    """
    facts = facts_in(source)
    if facts.space != store.facts.space:
        raise GalleryMismatchError(
            f"{source} holds embeddings of {facts.model} (space {facts.space}), the gallery those of "
            f"{store.facts.model} (space {store.facts.space}): index it into a gallery of its own"
        )
    rows = rows_in(source)
    while batch := list(islice(rows, ROWS)):
        yield from _add_batch(store, batch)


def _add_batch(store: Store, batch: list[tuple[str, Row | FashionInferError]]) -> list[Outcome]:
    before = {row.id: row for row in store.get([id for id, _ in batch])}
    outcomes: list[Outcome] = []
    fresh: dict[str, Row] = {}
    kinds = store.kinds
    for id, row in batch:
        if isinstance(row, FashionInferError):
            outcomes.append(Outcome(id, "failed", row))
        elif id in before and same(row, before[id]):
            outcomes.append(Outcome(id, "unchanged"))
        else:
            try:
                kinds = joined_kinds(kinds, [row.columns])
            except FashionInferError as error:
                outcomes.append(Outcome(id, "failed", error))
            else:
                outcomes.append(Outcome(id, "replaced" if id in before or id in fresh else "added"))
                fresh[id] = row
    if fresh:
        store.write([], fresh.values())
    return outcomes
