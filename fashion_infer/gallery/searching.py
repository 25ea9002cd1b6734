"""From query vectors to hits: the nearest rows are grouped, diversified, cut to a page and explained."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.arguments import number, whole_number
from fashion_infer.errors import FashionInferError, UsageError
from fashion_infer.gallery.filters import All, Compare, Filter
from fashion_infer.gallery.hits import Hit, Hits
from fashion_infer.gallery.match import META, Look, look_of, match_of, why
from fashion_infer.gallery.rows import Row
from fashion_infer.gallery.store import Candidates, Store
from fashion_infer.gallery.values import OWN

Float32s = NDArray[np.float32]

# Rocchio's weights of the query, of the liked rows and of the others (Manning et al., Introduction to Information
# Retrieval, 2008, section 9.1.1)
QUERY, LIKE, UNLIKE = 1.0, 0.75, 0.15
POOL, POOL_SHARE = 200, 5  # diversity chooses from at least so many candidates, and from so many for each hit


@dataclass
class Query:
    """One query, ready to be searched.

    Attributes:
        vector: float32 [D] of unit length; None if there was an error.
        look: category, attributes and colours that the model predicted, for a hit's `why`; None for a bare vector.
        without: ids of rows that are left out of the hits, because they are the query.
        facts: attributes of the query's Hits: box, category, error.
    """

    vector: Float32s | None
    look: Look | None = None
    without: set[str] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """Options of a search; `Gallery.search` explains them."""

    limit: int = 10
    offset: int = 0
    where: Filter | None = None
    exact: bool = False
    group_by: str | None = None
    min_score: float | None = None
    diversity: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", whole_number("limit", self.limit, high=sys.maxsize))
        object.__setattr__(self, "offset", whole_number("offset", self.offset, 0, sys.maxsize))
        number("diversity", self.diversity, 0, 1)
        if self.min_score is not None:
            number("min_score", self.min_score)
        if not isinstance(self.group_by, str | None):
            raise UsageError(f"group_by must be the name of one column, got {self.group_by!r}")

    @property
    def reach(self) -> int:
        """The number of hits up to the end of the page."""
        return self.offset + self.limit


def search(store: Store, queries: Sequence[Query], options: Options) -> list[Hits]:
    """Return the Hits of each query, in order; those of a query with an error are empty.

    Raises:
        UsageError: the gallery does not have the column to group by.
    """
    start = perf_counter()
    if options.group_by is not None and options.group_by not in {**store.kinds, **OWN}:
        names = ", ".join(sorted(store.kinds)) or "no columns of yours"
        raise UsageError(f"the gallery has no column {options.group_by!r} to group by; it has {names}")
    good = [query for query in queries if query.vector is not None]
    neighbours, searched, exact = _candidates(store, good, options)
    pages = iter([_page(store, query, candidates, options) for query, candidates in zip(good, neighbours, strict=True)])
    took_ms = (perf_counter() - start) * 1e3
    results = [Hits(**query.facts) if query.vector is None else next(pages) for query in queries]
    for hits in results:
        hits.searched, hits.exact, hits.took_ms = searched, exact, took_ms
    return results


def unit(vector: NDArray[Any]) -> Float32s:
    """Scale a vector to unit length, float32 [D].

    Raises:
        UsageError: all numbers are zero, or some are not finite.
    """
    largest = float(np.abs(vector).max(initial=0))
    if not 0 < largest < np.inf:
        raise UsageError("a query vector must be of finite numbers, not all zero")
    wide = vector.astype(np.float64) / largest  # so that no square is out of range
    result: Float32s = (wide / np.linalg.norm(wide)).astype(np.float32)
    return result


def refined(vector: Float32s | None, like: Sequence[Row], unlike: Sequence[Row]) -> Float32s:
    """Move a query towards the rows in `like` and away from those in `unlike`, by Rocchio's formula."""
    parts: list[NDArray[Any]] = [] if vector is None else [QUERY * vector]
    if like:
        parts.append(LIKE * np.stack([row.vector for row in like]).mean(axis=0, dtype=np.float32))
    if unlike:
        parts.append(-UNLIKE * np.stack([row.vector for row in unlike]).mean(axis=0, dtype=np.float32))
    return unit(np.sum(parts, axis=0))


def _candidates(store: Store, queries: list[Query], options: Options) -> tuple[list[Candidates], int, bool]:
    """Fetch enough rows, or groups of rows, for the page of each query, as far as the gallery has them.

    Returns:
        The candidates of each query, the number of rows searched, and whether all of them were compared.
    """
    if not queries:
        return [], 0, True
    vectors = np.stack([query.vector for query in queries if query.vector is not None])
    needed = max(POOL, POOL_SHARE * options.reach) if options.diversity else options.reach
    fetched = needed * (3 if options.group_by else 1) + max(len(query.without) for query in queries)
    while True:
        neighbours = store.nearest(vectors, fetched, options.where, exact=options.exact)
        kept = [
            _distinct([pair for pair in candidates if pair[1].id not in query.without], options.group_by)
            for query, candidates in zip(queries, neighbours.candidates, strict=True)
        ]
        full = (len(k) >= needed or len(c) < fetched for k, c in zip(kept, neighbours.candidates, strict=True))
        if all(full):
            return [candidates[:needed] for candidates in kept], neighbours.searched, neighbours.exact
        fetched *= 4


def _distinct(candidates: Candidates, group_by: str | None) -> Candidates:
    """Keep the best row of each group; a row without a value forms a group of its own."""
    if group_by is None:
        return candidates
    best: dict[Any, tuple[float, Row]] = {}
    for score, row in candidates:
        value = row.value(group_by)
        best.setdefault(("row", row.id) if value is None else ("group", str(value)), (score, row))
    return list(best.values())


def _page(store: Store, query: Query, candidates: Candidates, options: Options) -> Hits:
    if options.diversity and candidates:
        candidates = _diverse(store, candidates, options)
    page = candidates[options.offset : options.reach]
    shown = [pair for pair in page if options.min_score is None or pair[0] >= options.min_score]
    levels = store.meta.get(META)
    hits = [
        Hit(
            row.id,
            score,
            row.payload(),
            match_of(score, levels),
            why(query.look, look_of(row, store.facts)),
            _views(store, row, options),
        )
        for score, row in shown
    ]
    return Hits(hits, dropped=len(page) - len(shown), **query.facts)


def _views(store: Store, row: Row, options: Options) -> int:
    if options.group_by is None or (value := row.value(options.group_by)) is None:
        return 1
    same = Compare(options.group_by, "=", value)
    return store.count(same if options.where is None else All((options.where, same)))


def _diverse(store: Store, candidates: Candidates, options: Options) -> Candidates:
    """Order candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Each next candidate is similar to the query and different from those before it.
    """
    rows = {row.id: row.vector for row in store.get([row.id for _, row in candidates])}
    candidates = [pair for pair in candidates if pair[1].id in rows]
    vectors = np.stack([rows[row.id] for _, row in candidates]).astype(np.float32)
    relevance = np.array([score for score, _ in candidates])
    nearest = np.zeros(len(candidates))  # similarity to the nearest chosen candidate
    order: list[int] = []
    remaining = np.ones(len(candidates), np.bool_)
    for _ in range(min(options.reach, len(candidates))):
        marginal = (1 - options.diversity) * relevance - options.diversity * nearest
        chosen = int(np.where(remaining, marginal, -np.inf).argmax())
        order.append(chosen)
        remaining[chosen] = False
        similar = vectors @ vectors[chosen]
        nearest = similar if len(order) == 1 else np.maximum(nearest, similar)
    return [candidates[i] for i in order]


def failed(error: FashionInferError) -> Query:
    """Return a query that could not be made because of this error."""
    return Query(None, facts={"error": error})
