"""The results of a search: Hit and Hits."""

from dataclasses import dataclass, field
from typing import Any

from fashion_infer.errors import FashionInferError


@dataclass(frozen=True)
class Hit:
    """One garment that a search found.

    Attributes:
        id: id of the row.
        score: cosine similarity to the query, in [-1, 1].
        payload: path, box, category, category_score, attributes, is_garment, content_hash, colors if they are known,
            and the user's columns.
        match: "likely" to be the same item, "possible" or "unlikely", judged by how often other items of this gallery
            reach such a score; None if the gallery is too small to measure that.
        why: {"same": [...], "differs": [...]}, what query and hit have in common, and where they differ, in category,
            attributes and colours.
        views: in a grouped search, the number of rows in the hit's group that satisfy the filter; otherwise 1.
    """

    id: str
    score: float
    payload: dict[str, Any]
    match: str | None = None
    why: dict[str, list[str]] = field(default_factory=lambda: {"same": [], "differs": []})
    views: int = 1

    @property
    def item(self) -> Any:
        """The value of the user's column "item", or None."""
        return self.payload.get("item")

    @property
    def image(self) -> str | None:
        """The path of the photo, or None if it was not added as a path."""
        path: str | None = self.payload.get("path")
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "id": self.id,
            "item": plain(self.item),
            "score": self.score,
            "match": self.match,
            "views": self.views,
            "image": self.image,
            "payload": {name: plain(value) for name, value in self.payload.items()},
            "why": self.why,
        }


class Hits(list[Hit]):
    """The hits of one query, best first.

    Attributes:
        box: box of the query's garment, x1 y1 x2 y2 in pixels; None if the query was no photo.
        category: category that the model predicted for the query; None if the query was no photo.
        searched: number of rows that were searched.
        exact: True if all of these rows were compared, False if a graph was used.
        dropped: number of hits that `min_score` left out.
        took_ms: duration of the search in milliseconds, for all queries of the call together.
        error: None, or why this query could not be searched; there are then no hits.
    """

    def __init__(self, hits: "list[Hit] | tuple[Hit, ...]" = (), **facts: Any) -> None:
        super().__init__(hits)
        self.box: tuple[float, ...] | None = None
        self.category: str | None = None
        self.searched, self.exact, self.dropped, self.took_ms = 0, True, 0, 0.0
        self.error: FashionInferError | None = None
        for name, value in facts.items():
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of one query in a search's JSON; `search_to_dict` returns the whole."""
        box = None if self.box is None else list(self.box)
        described: dict[str, Any] = {"box": box, "category": self.category, "hits": [hit.to_dict() for hit in self]}
        if self.dropped:
            described["dropped"] = self.dropped
        if self.error is not None:
            described["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
        return described


def search_to_dict(results: list[Hits], space: str) -> dict[str, Any]:
    """Return the JSON of a search, with an object for each query, in their order.

    Args:
        results: the Hits of each query.
        space: the gallery's embedding space.
    """
    return {
        "objects": [hits.to_dict() for hits in results],
        "searched": max((hits.searched for hits in results), default=0),
        "exact": all(hits.exact for hits in results),
        "space": space,
        "took_ms": round(max((hits.took_ms for hits in results), default=0.0), 3),
    }


def plain(value: Any) -> Any:
    """Return a column's value in a form that JSON can hold: dates and times as ISO text, others as they are."""
    return value.isoformat() if hasattr(value, "isoformat") else value
