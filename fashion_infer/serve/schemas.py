"""The JSON of requests and responses, for the OpenAPI document; the responses themselves are made by `to_dict`."""

from typing import Any

from pydantic import BaseModel

OCTETS = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An encoded image (JPEG, PNG, WebP, GIF, BMP, TIFF), alone or as the file `image` of a form. "
        "The parameters may be fields of that form. No URL is fetched.",
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
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    name: str
    error: str
    request_id: str


class Score(BaseModel):
    """A category."""

    name: str
    score: float


class Attribute(Score):
    """An attribute above the model's threshold."""

    group: str


class Point(Score):
    """A landmark in pixels of the upright image; the score is that of its visibility."""

    x: float
    y: float
    visibility: str


class Garment(BaseModel):
    """One garment."""

    image: str | None
    width: int
    height: int
    box: list[float]
    is_garment: float | None
    categories: list[Score]
    attributes: list[Attribute]
    landmarks: list[Point]
    timing_ms: dict[str, float]
    embedding: list[float] | None = None


class Failure(BaseModel):
    """What is wrong with a box, in its place."""

    image: str | None
    error: dict[str, str]


class Why(BaseModel):
    """What query and hit share, and where they differ."""

    same: list[str]
    differs: list[str]


class Similar(BaseModel):
    """A hit."""

    id: str
    item: str | None
    score: float
    match: str | None
    views: int
    image: str | None
    payload: dict[str, Any]
    why: Why


class Query(BaseModel):
    """What was searched for, and its hits, best first."""

    box: list[float] | None
    category: str | None
    hits: list[Similar]
    dropped: int | None = None


class Found(BaseModel):
    """The answer to a search."""

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
    """What became of one garment: added, replaced, unchanged or failed."""

    id: str
    status: str
    error: str | None


class Outcomes(BaseModel):
    """What became of the garments of a photo."""

    items: list[Outcome]


def responses(model: Any, *, status: int = 200, problems: tuple[int, ...] = ()) -> dict[int | str, dict[str, Any]]:
    """The responses of an endpoint for its documentation: its result, and the problems beside those of every one."""
    every = (401, 413, 415, 422, 503, 504)
    described = {
        "description": "problem",
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
    answers: dict[int | str, dict[str, Any]] = {status: {"model": model}}
    return answers | dict.fromkeys(sorted({*every, *problems}), described)
