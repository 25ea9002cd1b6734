"""What a search gives back."""

from dataclasses import dataclass, field
from typing import Any

from fashion_infer.errors import FashionInferError


@dataclass(frozen=True)
class Hit:
    """A garment of the gallery that was found.

    Attributes:
        id: of the row.
        score: cosine similarity to the query, in [-1, 1].
        payload: path, box, category, category_score, attributes, is_garment, content_hash, colors where the model gives
            them, and the user's own columns.
        match: "likely" to be the same item, "possible" or "unlikely", by how often other items of this gallery score as
            high; None where the gallery is too small to measure that.
        why: {"same": [...], "differs": [...]}, what query and hit share in category, attributes and colours.
        views: of a grouped search, how many rows its group has (of those that meet the filter); else 1.
    """

    id: str
    score: float
    payload: dict[str, Any]
    match: str | None = None
    why: dict[str, list[str]] = field(default_factory=lambda: {"same": [], "differs": []})
    views: int = 1

    @property
    def item(self) -> Any:
        """The value of the user's column "item", None without one."""
        return self.payload.get("item")

    @property
    def image(self) -> str | None:
        """The path of the photo."""
        path: str | None = self.payload.get("path")
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
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
        box: of the query's garment, pixels; None where the query was no photo.
        category: that the model saw in the query, None likewise.
        searched: rows that were searched.
        exact: True where every one of them was compared, False where a graph led the way.
        dropped: hits that `min_score` left out.
        took_ms: milliseconds of the search, shared by the queries of one call.
        error: None, or why this query could not be searched; there are no hits then.
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
        """One object of a search's JSON; `search_to_dict` makes the whole."""
        box = None if self.box is None else list(self.box)
        described: dict[str, Any] = {"box": box, "category": self.category, "hits": [hit.to_dict() for hit in self]}
        if self.dropped:
            described["dropped"] = self.dropped
        if self.error is not None:
            described["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
        return described


def search_to_dict(results: list[Hits], space: str) -> dict[str, Any]:
    """The JSON of a search: an object for each query, in their order."""
    return {
        "objects": [hits.to_dict() for hits in results],
        "searched": max((hits.searched for hits in results), default=0),
        "exact": all(hits.exact for hits in results),
        "space": space,
        "took_ms": round(max((hits.took_ms for hits in results), default=0.0), 3),
    }


def plain(value: Any) -> Any:
    """A value of a column as JSON can hold it."""
    return value.isoformat() if hasattr(value, "isoformat") else value
