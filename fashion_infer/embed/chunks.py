"""Embeddings of photos as Parquet: one file for each chunk, written completely or not at all, and only once.

catalogue -> the chunks that are missing -> a worker (this machine, or a Ray cluster) -> rows -> chunk-000000.parquet
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from fashion_infer.embed.catalogue import Catalogue, Item
from fashion_infer.embed.places import RemoteFile, is_address
from fashion_infer.errors import FashionInferError, UsageError, missing_extra
from fashion_infer.files import write_atomically
from fashion_infer.gallery.adding import Job, failures, finished
from fashion_infer.gallery.gallery import facts_of
from fashion_infer.gallery.parquet import MODEL_KEY, SHA256_KEY, FailedRow, schema_of, table_of
from fashion_infer.gallery.photos import Photo, read_ahead
from fashion_infer.gallery.rows import Facts, Row, path_of_text
from fashion_infer.gallery.values import clean
from fashion_infer.predictor import Predictor

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_extra("pyarrow", "gallery", error) from error

INPUTS_KEY = "fashion_infer.inputs_sha256"

logger = logging.getLogger("fashion_infer")

Failures = list[tuple[str, str]]  # id and error of each row without an embedding


@dataclass(frozen=True)
class Terms:
    """The facts that all chunks of a run share.

    Attributes:
        kinds: kind of each of the user's columns.
        inputs_sha256: `Catalogue.fingerprint`.
        folder: folder that relative paths start from.
    """

    kinds: dict[str, str]
    inputs_sha256: str
    folder: str

    @classmethod
    def of(cls, catalogue: Catalogue) -> "Terms":
        """The terms of a catalogue that was read in the current folder."""
        return cls(catalogue.kinds, catalogue.fingerprint(), os.getcwd())  # noqa: PTH109


class Worker(Protocol):
    """The computation of chunks, on one machine or a cluster.

    Attributes:
        facts: the model and embedding space of the embeddings.
    """

    facts: Facts

    def tables(self, chunks: Iterator[tuple[int, list[Item]]], terms: Terms) -> Iterator[tuple[int, pa.Table]]:
        """Yield each chunk's number and table as they are finished."""
        ...


class OneMachine:
    """A worker that computes in this process."""

    def __init__(self, predictor: Predictor, progress: Callable[[int], None] = lambda rows: None) -> None:
        """Use a Predictor.

        Args:
            predictor: the model.
            progress: called with the number of rows finished since the last call.
        """
        self.facts = facts_of(predictor)
        self._predictor, self._progress = predictor, progress

    def tables(self, chunks: Iterator[tuple[int, list[Item]]], terms: Terms) -> Iterator[tuple[int, pa.Table]]:
        """Yield the chunks in order; the next one is read and decoded while the end of this one runs."""
        begun: deque[tuple[int, int]] = deque()

        def photos() -> Iterator[Photo]:
            for number, items in chunks:
                begun.append((number, len(items)))
                yield from map(partial(_photo, terms.folder), items)

        rows = embedded(self._predictor, photos())
        for first in rows:
            number, size = begun.popleft()
            chunk = [first]
            self._progress(1)
            for row in islice(rows, size - 1):
                chunk.append(row)
                self._progress(1)
            yield number, chunk_table(self.facts, terms, chunk)


def embedded(predictor: Predictor, photos: Iterable[Photo]) -> Iterator[Row | FailedRow]:
    """The row of each photo, in order; the row of an unusable photo holds its error."""

    def jobs() -> Iterator[Job]:
        for photo in read_ahead(photos):
            job = Job(photo, [])
            if photo.error is not None:
                job.outcomes = failures(job, photo.error)
            yield job

    for job in finished(predictor, jobs()):
        assert job.outcomes is not None
        (outcome,) = job.outcomes
        if outcome.error is None:
            assert job.rows is not None
            yield from job.rows
        else:
            photo = job.photo
            text = str(outcome.error)
            yield FailedRow(photo.id, photo.path, text, photo.content_hash or None, photo.columns or {})


def _photo(folder: str, item: Item) -> Photo:
    """A photo to read; relative paths start from `folder`, which may not be the current one."""
    source = RemoteFile(item.path) if is_address(item.path) else path_of_text(str(Path(folder, item.path)))
    photo = Photo(item.id, source, item.path, None, {})  # type: ignore[arg-type] # a RemoteFile is read, no more
    try:
        photo.columns = clean(item.columns)
    except FashionInferError as error:
        photo.error = error
    return photo


def chunk_table(facts: Facts, terms: Terms, rows: Sequence[Row | FailedRow]) -> pa.Table:
    """The table of one chunk, whose metadata says what it was made from."""
    schema = schema_of(facts, terms.kinds)
    return table_of(rows, schema.with_metadata({**schema.metadata, INPUTS_KEY: terms.inputs_sha256}))


def chunk_path(folder: Path, number: int) -> Path:
    """The file of a chunk."""
    return folder / f"chunk-{number:06}.parquet"


def finished_chunks(folder: Path, facts: Facts, terms: Terms) -> dict[int, Failures]:
    """The chunks that an earlier run wrote, with the failures of each.

    A file that cannot be read, such as a damaged one, counts as not written.

    Raises:
        UsageError: the folder holds chunks of other inputs or another model, or other files.
    """
    chunks: dict[int, Failures] = {}
    for path in sorted(folder.glob("*.parquet")):
        number = path.stem.removeprefix("chunk-")
        if not (path.name.startswith("chunk-") and number.isascii() and number.isdigit()):
            raise UsageError(f"{folder} holds {path.name}, which is no chunk of embeddings: give a folder of its own")
        try:
            table = pq.read_table(path, columns=["id", "error"])
        except (OSError, pa.ArrowException) as error:
            logger.warning("%s cannot be read and is made again: %s", path, error)
            continue
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if metadata.get(SHA256_KEY) != facts.model_sha256:
            raise UsageError(
                f"{folder} holds embeddings of another model, {metadata.get(MODEL_KEY)} with sha256 "
                f"{metadata.get(SHA256_KEY)}, and {facts.model} has {facts.model_sha256}: give a folder of its own"
            )
        if metadata.get(INPUTS_KEY) != terms.inputs_sha256:
            raise UsageError(
                f"{folder} holds embeddings of another list of inputs: give the list that it was begun with, or a "
                "folder of its own"
            )
        chunks[int(number)] = _failures(table)
    return chunks


def write_chunks(
    catalogue: Catalogue, folder: Path, numbers: Sequence[int], worker: Worker, terms: Terms
) -> Iterator[tuple[int, Failures]]:
    """Compute and write chunks; yield the number of rows and the failures of each when its file is written.

    Raises:
        OutputError: a file cannot be written; earlier files are kept.
        FashionInferError: the worker cannot continue; earlier files are kept.
    """
    chunks = ((number, catalogue.chunk(number)) for number in numbers)
    for number, table in worker.tables(chunks, terms):
        write_atomically(chunk_path(folder, number), partial(pq.write_table, table))
        yield table.num_rows, _failures(table)


def _failures(table: pa.Table) -> Failures:
    failed = table.select(["id", "error"]).filter(pc.is_valid(table["error"])).to_pylist()
    return [(row["id"], row["error"]) for row in failed]
