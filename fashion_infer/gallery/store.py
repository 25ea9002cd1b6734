"""The interface of a store, in which a Gallery keeps its rows; `local.py` and `qdrant.py` implement it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.gallery.filters import Filter
from fashion_infer.gallery.rows import Facts, Row

Float32s = NDArray[np.float32]
Candidates = list[tuple[float, Row]]  # cosine similarities in [-1, 1] and rows, some without a vector, best first


class Nearest(NamedTuple):
    """The nearest rows of each query, how many rows were searched, and whether all of them were compared."""

    candidates: list[Candidates]
    searched: int
    exact: bool


class Store(Protocol):
    """A durable store of rows of one embedding space.

    Attributes:
        facts: embedding space and model of the rows.
        kinds: kind of each of the user's columns.
        meta: further values that are stored with the gallery, by name.
    """

    facts: Facts
    kinds: dict[str, str]
    meta: dict[str, Any]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, always in the same order."""
        ...

    def get(self, ids: Sequence[str], *, by: str = "id") -> list[Row]:
        """Return the rows with these ids, or of these photos (`by="record"`)."""
        ...

    def paths(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield id, path and content hash of every row."""
        ...

    def sample(self, count: int) -> list[Row]:
        """Return `count` rows spread over the whole store; the same store always gives the same sample."""
        ...

    def nearest(self, queries: Float32s, count: int, where: Filter | None, *, exact: bool = False) -> Nearest:
        """Find the `count` nearest rows of each query, [Q, D], among those that satisfy a filter; ties go by id."""
        ...

    def count(self, where: Filter | None) -> int:
        """Return the number of rows that satisfy a filter."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Hold the right to write for the length of a `with` block, which the methods below require."""
        ...

    def write(self, records: Iterable[str], rows: Iterable[Row]) -> None:
        """Replace all rows of these photos by `rows`."""
        ...

    def remove(self, ids: Sequence[str]) -> int:
        """Remove rows, and return how many there were."""
        ...

    def set_meta(self, key: str, value: Any) -> None:
        """Store a value that JSON can hold with the gallery."""
        ...

    def settle(self, *, wait: bool = False, progress: Callable[[int, int], None] | None = None) -> None:
        """Bring the index up to date after writing; `wait` makes the call wait for work in the background."""
        ...

    # for a rebuild, which fills another epoch while the present one is searched

    def numbered(self) -> Iterator[tuple[Any, Row]]:
        """Yield every row with an identifier of its own; a row that replaces it has another identifier."""
        ...

    def begin_epoch(self, facts: Facts) -> Any:
        """Return the epoch that a rebuild for these facts fills: an unfinished one, or a new one."""
        ...

    def origins(self, epoch: Any) -> set[Any]:
        """Return the identifiers of the rows that an epoch has computed, without rows replaced or removed since."""
        ...

    def write_epoch(self, epoch: Any, origins: Sequence[Any], rows: Sequence[Row]) -> None:
        """Write rows into an epoch, each with the identifier of the row that it will replace."""
        ...

    def switch_epoch(self, epoch: Any) -> None:
        """Serve searches from this epoch, and drop the previous one."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...
