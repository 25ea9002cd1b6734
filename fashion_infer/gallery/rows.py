"""A row of a gallery, which holds all that is stored of one garment, and its conversions."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from fashion_infer.arguments import several
from fashion_infer.errors import UsageError
from fashion_infer.gallery.values import Value, to_json
from fashion_infer.model_spec import LANDMARK_NAMES, VISIBILITY_NAMES
from fashion_infer.prediction import Prediction

Float16s = NDArray[np.float16]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Facts:
    """The embedding space and the model that a gallery is bound to.

    Attributes:
        space: `ModelSpec.embedding_space` of every row.
        dim: length D of the embeddings.
        model: path or built-in name of the model that computed the embeddings.
        model_sha256: sha256 of the model's file, in hexadecimal.
        groups: group (texture, fabric, ...) of each of the model's attributes.
    """

    space: str
    dim: int
    model: str
    model_sha256: str
    groups: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Row:
    """One garment: a photo, or one box of a photo.

    Attributes:
        id: id of the row, unique in the gallery.
        record: id of the photo, which all of its boxes share.
        path: path of the photo as it was passed; None if it was not added as a path.
        asked: box as it was passed; None for the whole photo.
        box: x1 y1 x2 y2 of the garment after clipping, pixels of the upright photo.
        is_garment: probability in [0, 1] that the box shows a garment; None if the model does not predict it.
        category: name of the best category.
        category_score: probability of that category, in [0, 1].
        attributes: names of the attributes above the model's threshold, best first.
        colors: [{"name", "hex", "share"}], the largest share first; None if they are unknown.
        landmarks: float32 [8, 4]: x and y in pixels, index of the visibility, score of the visibility; None if there
            are no landmarks.
        content_hash: sha256 of the photo's bytes, in hexadecimal.
        vector: embedding, float16 [D] of unit length.
        columns: values of the user's columns.
    """

    id: str
    record: str
    path: str | None
    asked: Box | None
    box: Box | None
    is_garment: float | None
    category: str
    category_score: float
    attributes: list[str]
    colors: list[dict[str, Any]] | None
    landmarks: NDArray[np.float32] | None
    content_hash: str
    vector: Float16s
    columns: dict[str, Value]

    def payload(self) -> dict[str, Any]:
        """Return the fields that a hit shows, as plain Python values."""
        own = {
            "path": self.path,
            "box": None if self.box is None else list(self.box),
            "category": self.category,
            "category_score": self.category_score,
            "attributes": self.attributes,
            "is_garment": self.is_garment,
            "content_hash": self.content_hash,
        }
        return own | ({} if self.colors is None else {"colors": self.colors}) | self.columns

    def value(self, column: str) -> Value:
        """Return the value that filters compare, of one of the gallery's own columns or of the user's."""
        if column == "colors":
            return None if self.colors is None else [color["name"] for color in self.colors]
        if column in ("id", "content_hash"):
            return str(getattr(self, column))
        value: Value = self.payload().get(column)
        return value


def row_of(
    prediction: Prediction,
    *,
    id: str,
    record: str,
    path: str | None,
    asked: Box | None,
    content_hash: str,
    columns: dict[str, Value],
) -> Row:
    """Make a row from a garment's Prediction; the other arguments are fields of the Row.

    Raises:
        ValueError: the embedding is not of unit length, for example because it contains NaN.
    """
    vector = prediction.embedding
    if not abs(float(vector @ vector) - 1) < 1e-2:  # `not <`, so that NaN fails too
        raise ValueError("the model gave an embedding that is not of unit length, or that contains NaN")
    points = [(p.x, p.y, VISIBILITY_NAMES.index(p.visibility), p.score) for p in prediction.landmarks]
    return Row(
        id=id,
        record=record,
        path=path,
        asked=asked,
        box=prediction.box,
        is_garment=prediction.is_garment,
        category=prediction.category.name,
        category_score=prediction.category.score,
        attributes=[label.name for label in prediction.attributes],
        colors=colors_of(prediction),
        landmarks=np.array(points, np.float32),
        content_hash=content_hash,
        vector=vector.astype(np.float16),
        columns=columns,
    )


def colors_of(prediction: Prediction) -> list[dict[str, Any]] | None:
    """Return the colours of a prediction as plain values, or None if it has none."""
    return None if prediction.colors is None else [color._asdict() for color in prediction.colors]


def landmarks_to_dicts(landmarks: NDArray[np.float32] | None) -> list[dict[str, Any]] | None:
    """Return landmarks in the form that `Prediction.to_dict` writes."""
    if landmarks is None:
        return None
    names = zip(LANDMARK_NAMES, landmarks.tolist(), strict=True)
    return [
        {"name": name, "x": x, "y": y, "visibility": VISIBILITY_NAMES[int(v)], "score": score}
        for name, (x, y, v, score) in names
    ]


def landmarks_from_dicts(points: list[dict[str, Any]] | None) -> NDArray[np.float32] | None:
    """Invert `landmarks_to_dicts`."""
    if points is None:
        return None
    rows = [(p["x"], p["y"], VISIBILITY_NAMES.index(p["visibility"]), p["score"]) for p in points]
    return np.array(rows, np.float32)


def columns_to_json(columns: Mapping[str, Value]) -> str:
    """Return the user's columns as the JSON text that is stored."""
    return json.dumps({name: to_json(value) for name, value in columns.items()}, allow_nan=False)


def text_of_id(id: object) -> str:
    """Return the id of a row as text that any store can hold; whole numbers and paths are accepted as ids.

    Raises:
        UsageError: the id is something else.
    """
    if isinstance(id, str | os.PathLike):
        return text_of_path(id)
    if isinstance(id, Integral) and not isinstance(id, bool):
        return str(int(id))
    raise UsageError(f"an id must be a text, got a {type(id).__name__}")


def texts_of_ids(ids: Any) -> list[str]:
    """Return one id or several as texts.

    Raises:
        UsageError: an id is no text.
        TypeError: `ids` is neither a text nor an iterable.
    """
    return [text_of_id(id) for id in ([ids] if is_single_id(ids) else several("ids", ids))]


def is_single_id(ids: object) -> bool:
    """Whether an argument is one id (a text, a path or a whole number), and not several."""
    return isinstance(ids, str | os.PathLike | Integral)


def text_of_path(path: str | os.PathLike[str]) -> str:
    """Return a path as UTF-8 text that any store can hold; if its bytes are not UTF-8, it is percent-encoded.

    Raises:
        UsageError: the path has characters that no file's name can have.
    """
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"{os.fspath(path)!r} has characters that are no text") from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return quote_from_bytes(raw, safe="/ ")


def path_of_text(text: str) -> Path:
    """Return the path from which `text_of_path` made this text."""
    path = Path(text)
    if "%" in text and not path.exists():
        encoded = Path(os.fsdecode(unquote_to_bytes(text)))
        return encoded if encoded.exists() else path
    return path
