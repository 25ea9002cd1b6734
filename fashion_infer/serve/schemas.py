"""Schemas of the JSON in requests and responses, for the OpenAPI document only: other modules make the responses."""

from typing import Any

from pydantic import BaseModel

OCTETS = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An encoded image (JPEG, PNG, WebP, GIF, BMP, TIFF), alone or as the file `image` of a form. "
        "The parameters may be fields of that form. The server does not fetch URLs.",
        "content": {
            "image/*": OCTETS,
            "application/octet-stream": OCTETS,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "additionalProperties": {"type": "string"},
                }
            },
        },
    }
}


class Problem(BaseModel):
    """A description of an error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    name: str
    error: str
    request_id: str


class Score(BaseModel):
    """A category and its score in [0, 1]."""

    name: str
    score: float


class Attribute(Score):
    """An attribute that scores above the model's threshold."""

    group: str


class Point(Score):
    """A landmark in pixels of the upright image; `score` is the probability of its `visibility`."""

    x: float
    y: float
    visibility: str


class GarmentColor(BaseModel):
    """A colour of the garment, and its share of the garment's pixels in [0, 1]."""

    name: str
    hex: str
    share: float


class Garment(BaseModel):
    """What the model recognised in one garment."""

    image: str | None
    width: int
    height: int
    box: list[float]
    is_garment: float | None
    categories: list[Score]
    attributes: list[Attribute]
    landmarks: list[Point]
    colors: list[GarmentColor] | None
    timing_ms: dict[str, float]
    embedding: list[float] | None = None


class Failure(BaseModel):
    """The error of a box that cannot be used, in that box's place in the list."""

    image: str | None
    error: dict[str, str]


class Why(BaseModel):
    """The properties in which query and hit agree, and those in which they differ."""

    same: list[str]
    differs: list[str]


class Similar(BaseModel):
    """One hit of a search."""

    id: str
    item: str | None
    score: float
    match: str | None
    views: int
    image: str | None
    payload: dict[str, Any]
    why: Why


class Query(BaseModel):
    """One query of a search, and its hits, best first."""

    box: list[float] | None
    category: str | None
    hits: list[Similar]
    dropped: int | None = None


class Found(BaseModel):
    """The result of a search."""

    objects: list[Query]
    searched: int
    exact: bool
    space: str
    took_ms: float


class Item(BaseModel):
    """A row of the gallery."""

    id: str
    payload: dict[str, Any]
    landmarks: list[Point] | None


class Outcome(BaseModel):
    """The outcome for one garment: added, replaced, unchanged or failed."""

    id: str
    status: str
    error: str | None


class Outcomes(BaseModel):
    """The outcomes for all garments of a photo."""

    items: list[Outcome]


def responses(model: Any, *, status: int = 200, problems: tuple[int, ...] = ()) -> dict[int | str, dict[str, Any]]:
    """Describe the responses of an endpoint for the OpenAPI document.

    Args:
        model: the pydantic model or type of the result.
        status: the status of a response with a result.
        problems: statuses of errors, besides those that every endpoint has.
    """
    common = (401, 413, 415, 422, 503, 504)
    described = {
        "description": "problem",
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    answers: dict[int | str, dict[str, Any]] = {status: {"model": model}}
    return answers | dict.fromkeys(sorted({*common, *problems}), described)
