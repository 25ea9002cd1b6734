"""What a score means in one gallery, and what two garments have in common.

The same score means different things in a gallery of white shirts and in a gallery of all kinds of clothes. Some of the
gallery's rows are therefore searched in the gallery itself. The scores of the rows of *other* items show how often such
a high score is a false alarm. Without a column `item`, every other photo counts as another item; this is too strict if
an item has several photos.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fashion_infer.gallery.rows import Facts, Row, colors_of
from fashion_infer.gallery.store import Store
from fashion_infer.prediction import Prediction

META = "match"  # name under which the levels are stored in the gallery's meta
LIKELY, POSSIBLE = 0.02, 0.5  # most false alarms per query among its first ten hits
QUERIES = 1000  # greatest number of rows that are searched
MIN_ROWS = 50  # with fewer rows, the rate of false alarms cannot be measured
GROWN = 1.25  # measure again if the gallery is larger or smaller by this factor
NEIGHBOURS = 10  # hits of a query that are examined


def is_due(store: Store) -> bool:
    """Tell whether the levels have not been measured yet, or were measured on a much smaller or larger gallery."""
    rows, measured = len(store), store.meta.get(META, {}).get("rows", 0)
    return rows >= MIN_ROWS and not measured / GROWN <= rows <= measured * GROWN


def measure(store: Store, sample: list[Row]) -> dict[str, Any]:
    """Measure the scores from which on a hit is a likely or a possible match.

    Args:
        store: the gallery's store.
        sample: some of its rows, with their vectors.

    Returns:
        {"likely": score, "possible": score, "rows": number of rows in the gallery, "queries": number of rows searched,
        "by": "items" or "rows"}
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
        allowed = int(rate * len(sample))  # number of false alarms that may lie above the level
        return float(np.nextafter(descending[min(allowed, len(descending) - 1)], 2))

    facts = {"rows": len(store), "queries": len(sample), "by": "items" if by_items else "rows"}
    return {"likely": level(LIKELY), "possible": level(POSSIBLE), **facts}


def is_other(row: Row, other: Row) -> bool:
    """Tell whether two rows count as different items."""
    if row.id == other.id or row.record == other.record or row.content_hash == other.content_hash:
        return False
    item = row.columns.get("item")
    return item is None or item != other.columns.get("item")


def match_of(score: float, levels: Mapping[str, Any] | None) -> str | None:
    """Return "likely", "possible" or "unlikely" for a score; None if the levels have not been measured."""
    if not levels:
        return None
    if score >= levels["likely"]:
        return "likely"
    return "possible" if score >= levels["possible"] else "unlikely"


@dataclass(frozen=True)
class Look:
    """The part of a model's prediction by which two garments are compared.

    Attributes:
        category: name of the category.
        attributes: names of the attributes in each group (texture, sleeve, ...).
        colors: names of the colours; None if they are unknown.
    """

    category: str
    attributes: dict[str, set[str]] = field(default_factory=dict)
    colors: set[str] | None = None


def look_of(garment: Row | Prediction, facts: Facts) -> Look:
    """Return the look of a row or of a query's Prediction."""
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
    """Say in words what a hit and the query have in common and where they differ; both are empty without a look."""
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
