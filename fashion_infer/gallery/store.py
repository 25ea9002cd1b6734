"""What a Gallery needs of the place that it keeps its rows in; `local.py` and `qdrant.py` are two."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.gallery.filters import Filter
from fashion_infer.gallery.rows import Facts, Row

Float32s = NDArray[np.float32]
Candidates = list[tuple[float, Row]]  # cosine similarity in [-1, 1] and row (perhaps without its vector), best first


class Nearest(NamedTuple):
    """The nearest rows of each query, how many rows were searched, and whether all of them were compared."""

    candidates: list[Candidates]
    searched: int
    exact: bool


class Store(Protocol):
    """Rows, durable, of one embedding space.

    Attributes:
        facts: what they are bound to.
        kinds: of the user's columns.
        meta: values kept with the gallery.
    """

    facts: Facts
    kinds: dict[str, str]
    meta: dict[str, Any]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]:
        """Every row in an order that stays the same."""
        ...

    def get(self, ids: Sequence[str], *, by: str = "id") -> list[Row]:
        """The rows with these ids, or of these photos (`by="record"`)."""
        ...

    def paths(self) -> Iterator[tuple[str, str | None, str]]:
        """Id, path and content hash of every row."""
        ...

    def sample(self, count: int) -> list[Row]:
        """So many rows, spread over all of them, the same ones for the same rows."""
        ...

    def nearest(self, queries: Float32s, count: int, where: Filter | None, *, exact: bool = False) -> Nearest:
        """The `count` nearest rows of each query [Q, D] among those that meet a filter; ties are broken by id."""
        ...

    def count(self, where: Filter | None) -> int:
        """How many rows meet a filter."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Be the one writer in a `with` block, which the calls below need."""
        ...

    def write(self, records: Iterable[str], rows: Iterable[Row]) -> None:
        """Put rows in place of all that these photos had; all or none."""
        ...

    def remove(self, ids: Sequence[str]) -> int:
        """Remove rows; says how many there were."""
        ...

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        ...

    def settle(self, *, wait: bool = False, progress: Callable[[int, int], None] | None = None) -> None:
        """After writing, keep the index in step with the rows; `wait` for what is done in the background."""
        ...

    # a rebuild fills another epoch beside the one that serves

    def numbered(self) -> Iterator[tuple[Any, Row]]:
        """Every row with a mark of its own, which a row that takes its place does not have."""
        ...

    def begin_epoch(self, facts: Facts) -> Any:
        """The epoch that a rebuild for these facts fills: one that was broken off, or a new one."""
        ...

    def origins(self, epoch: Any) -> set[Any]:
        """The marks of the rows that an epoch has done, those that were replaced or removed meanwhile left out."""
        ...

    def write_epoch(self, epoch: Any, origins: Sequence[Any], rows: Sequence[Row]) -> None:
        """Put rows into an epoch, each with the mark of the row that it stands for."""
        ...

    def switch_epoch(self, epoch: Any) -> None:
        """Let an epoch serve from now on, and drop the one that did."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
