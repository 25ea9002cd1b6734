"""How much a score means in one gallery, and what two garments share.

Equal scores mean different things in a gallery of white shirts and in one of everything. So some of the gallery's
rows are searched in it, and the scores of the rows of *other* items say how often a score as high is a false alarm.
Where rows have no items, every other photo counts as another item, which is too strict where one has several photos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fashion_infer.gallery.rows import Facts, Row, colors_of
from fashion_infer.gallery.store import Store
from fashion_infer.prediction import Prediction

META = "match"  # the name under which the levels are kept
LIKELY, POSSIBLE = 0.02, 0.5  # false alarms a query among its first ten, at most
QUERIES = 1000  # rows tried, at most
MIN_ROWS = 50  # below, a rate cannot be measured
GROWN = 1.25  # times as many rows as at the last measuring: time for the next
NEIGHBOURS = 10


def is_due(store: Store) -> bool:
    """Whether the levels were never measured, or on a much smaller or larger gallery."""
    rows, measured = len(store), store.meta.get(META, {}).get("rows", 0)
    return rows >= MIN_ROWS and not measured / GROWN <= rows <= measured * GROWN


def measure(store: Store, sample: list[Row]) -> dict[str, Any]:
    """The scores from which on a hit is a likely or a possible match.

    Args:
        store: of the gallery.
        sample: some of its rows, with their vectors.

    Returns:
        {"likely": score, "possible": score, "rows": of the gallery, "queries", "by": "items" or "rows"}
    """
    queries = np.stack([row.vector for row in sample]).astype(np.float32)
    nearest_rows = store.nearest(queries, NEIGHBOURS + 1, None)
    by_items = any("item" in row.columns for row in sample)
    alarms = [
        score
        for row, candidates in zip(sample, nearest_rows.candidates, strict=True)
        for score, other in candidates
        if is_other(row, other)
    ]
    descending = np.sort(np.array([*alarms, -1.0]))[::-1]

    def level(rate: float) -> float:
        allowed = int(rate * len(sample))  # so many alarms may lie above the level
        return float(np.nextafter(descending[min(allowed, len(descending) - 1)], 2))

    facts = {"rows": len(store), "queries": len(sample), "by": "items" if by_items else "rows"}
    return {"likely": level(LIKELY), "possible": level(POSSIBLE), **facts}


def is_other(row: Row, other: Row) -> bool:
    """Whether two rows count as different items."""
    if row.id == other.id or row.record == other.record or row.content_hash == other.content_hash:
        return False
    item = row.columns.get("item")
    return item is None or item != other.columns.get("item")


def match_of(score: float, levels: Mapping[str, Any] | None) -> str | None:
    """The match of a score, None where the levels were never measured."""
    if not levels:
        return None
    if score >= levels["likely"]:
        return "likely"
    return "possible" if score >= levels["possible"] else "unlikely"


@dataclass(frozen=True)
class Look:
    """What a model says of a garment, as far as two of them are compared.

    Attributes:
        category: its name.
        attributes: names by group (texture, sleeve, ...).
        colors: names, None where they are not known.
    """

    category: str
    attributes: dict[str, set[str]] = field(default_factory=dict)
    colors: set[str] | None = None


def look_of(garment: Row | Prediction, facts: Facts) -> Look:
    """The look of a row, or of a query that a model has seen."""
    if isinstance(garment, Row):
        category, names, colors = garment.category, garment.attributes, garment.colors
    else:
        category, names = garment.category.name, [label.name for label in garment.attributes]
        colors = colors_of(garment)
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(facts.groups.get(name, "attribute"), set()).add(name)
    return Look(category, groups, None if colors is None else {color["name"] for color in colors})


def why(query: Look | None, hit: Look) -> dict[str, list[str]]:
    """What a hit shares with the query and where it differs, in words; nothing for a query that is a bare vector."""
    same: list[str] = []
    differs: list[str] = []
    if query is None:
        return {"same": same, "differs": differs}

    def compare(what: str, ours: set[str], theirs: set[str]) -> None:
        shown: Callable[[set[str]], str] = lambda names: ", ".join(sorted(names))  # noqa: E731
        if both := ours & theirs:
            same.append(f"{what}: {shown(both)}")
        elif ours and theirs:
            differs.append(f"{what}: {shown(ours)} / {shown(theirs)}")

    compare("category", {query.category}, {hit.category})
    for group in query.attributes.keys() & hit.attributes.keys():
        compare(group, query.attributes[group], hit.attributes[group])
    compare("color", query.colors or set(), hit.colors or set())
    return {"same": same, "differs": differs}
