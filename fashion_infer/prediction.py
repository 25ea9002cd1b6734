"""The Prediction class: numpy results for one garment, made from one row of the network's outputs."""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_infer import errors
from fashion_infer.colors import Color, dominant_colors, sampled
from fashion_infer.drawing import Mark, draw
from fashion_infer.errors import FashionInferError, ImageError, UsageError
from fashion_infer.images import MAX_PIXELS, ImageSource, Picture, Pixels, path_of, read_image
from fashion_infer.model_spec import VISIBILITY_NAMES, ModelSpec
from fashion_infer.preprocess import Crop

Float32s = NDArray[np.float32]


class Label(NamedTuple):
    """A name and its score in [0, 1]; `group` is an attribute's kind (texture, fabric, ...), empty for a category."""

    name: str
    score: float
    group: str = ""


class Landmark(NamedTuple):
    """A landmark in pixels of the upright image; `score` is the probability in [0, 1] of its `visibility`."""

    name: str
    x: float
    y: float
    visibility: str
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """One garment of one image.

    In a list, an image that could not be used gives a Prediction whose `error` says why. Reading any of its fields
    except `source`, `picture` and `error` raises that error, which is then an AttributeError as well.

    Attributes:
        source: the image as the caller passed it; pickled and copied only if it is a path.
        width: width of the upright image, pixels.
        height: height of the upright image, pixels.
        box: x1 y1 x2 y2 of the garment, pixels, clipped to the image.
        categories: every category, best first.
        attributes: the attributes above the model's threshold, best first.
        attribute_scores: float32 [A], every attribute in the order of `ModelSpec.attributes`.
        landmarks: the 8 landmarks in the order of `ModelSpec.landmarks`.
        embedding: float32 [D] of unit length.
        is_garment: probability in [0, 1] that the crop shows a garment; below 0.5 treat it as none. None if the model
            does not predict it.
        colors: up to three colours of the garment, the largest share first, computed from its pixels when they are
            first read: see `fashion_infer.colors`. None in a Prediction restored from a dictionary without colours.
        timing: milliseconds of each stage (decode, preprocess, queue, compute, post); compute is the whole batch's.
        error: the reason why the image could not be used, or None.
        picture: the decoded image if the Predictor keeps pictures; not pickled or copied.
    """

    source: ImageSource
    width: int
    height: int
    box: tuple[float, float, float, float]
    categories: tuple[Label, ...]
    attributes: tuple[Label, ...]
    attribute_scores: Float32s
    landmarks: tuple[Landmark, ...]
    embedding: Float32s
    is_garment: float | None
    colors: tuple[Color, ...] | None
    timing: dict[str, float]
    error: FashionInferError | None = None
    picture: Picture | None = None

    @classmethod
    def failed(cls, source: ImageSource, error: FashionInferError) -> "Prediction":
        """The Prediction of an image that could not be used."""
        prediction = object.__new__(cls)
        prediction.__dict__.update(source=source, error=error)
        return prediction

    def __getattr__(self, name: str) -> Any:
        # Python calls this for missing attributes only: colours that nobody has read yet, the fields of a failed
        # prediction, and misspelt names.
        if name == "colors" and "_look" in self.__dict__:
            self.__dict__["colors"] = colors = dominant_colors(*self._look)
            return colors
        if name in _FIELDS and (error := self.__dict__.get("error")) is not None:
            raise _as_attribute_error(type(error))(str(error)) from error
        raise AttributeError(f"Prediction has no {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "source": self.image, "picture": None}
        if state.pop("_look", None) is not None:
            state["colors"] = self.colors
        return state

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction(image={self.image!r}, error={self.error!r})"
        return f"Prediction(image={self.image!r}, category={self.category!r}, box={self.box})"

    @property
    def image(self) -> str | None:
        """The path of the image, or None if `source` is not a path."""
        try:
            return path_of(self.source)
        except ImageError:  # the `error` of this prediction
            return None

    @property
    def category(self) -> Label:
        """The best category."""
        return self.categories[0]

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """Plain Python values, ready for JSON; a failed prediction has `image` and `error` only."""
        if self.error is not None:
            return {"image": self.image, "error": {"type": type(self.error).__name__, "message": str(self.error)}}
        fields: dict[str, Any] = {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "box": list(self.box),
            "is_garment": self.is_garment,
            "categories": [{"name": label.name, "score": label.score} for label in self.categories[:5]],
            "attributes": [{"name": a.name, "group": a.group, "score": a.score} for a in self.attributes],
            "landmarks": [point._asdict() for point in self.landmarks],
            "colors": None if self.colors is None else [color._asdict() for color in self.colors],
            "timing_ms": {stage: round(ms, 3) for stage, ms in self.timing.items()},
        }
        return {**fields, "embedding": self.embedding.tolist()} if embedding else fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Prediction":
        """Restore a Prediction from the result of `to_dict`, which leaves some fields out.

        These fields survive: the image if it was a path (as `source`), width, height, box, is_garment, the first five
        categories, the attributes above the threshold, landmarks, colors, timing to a microsecond, and the embedding if
        it was included. A failed prediction keeps its image, and its error with the same class and message.
        `attribute_scores` has length 0, and so has an `embedding` that was left out; `picture` is None.

        Args:
            fields: the result of `to_dict`, also after a round trip through JSON, such as a line of
                `fashion-infer predict --json`. Unknown fields, which a later release may add, are ignored, and
                `colors` may be missing.

        Raises:
            UsageError: a field is missing or has another shape.
        """
        try:
            if "error" in fields:
                return cls.failed(fields["image"], _error_of(fields["error"]))
            x1, y1, x2, y2 = map(float, fields["box"])
            colors = fields.get("colors")
            return cls(
                source=fields["image"],
                width=fields["width"],
                height=fields["height"],
                box=(x1, y1, x2, y2),
                categories=tuple(Label(label["name"], label["score"]) for label in fields["categories"]),
                attributes=tuple(Label(a["name"], a["score"], a["group"]) for a in fields["attributes"]),
                attribute_scores=np.empty(0, np.float32),
                landmarks=tuple(Landmark(*(point[name] for name in Landmark._fields)) for point in fields["landmarks"]),
                embedding=np.array(fields.get("embedding", ()), np.float32),
                is_garment=fields["is_garment"],
                colors=None if colors is None else tuple(Color(c["name"], c["hex"], c["share"]) for c in colors),
                timing=dict(fields["timing_ms"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is not what Prediction.to_dict gives: {type(error).__name__} {error}") from error

    def plot(self, image: ImageSource | None = None) -> Pixels:
        """Draw the box and each landmark with its name; categories and attributes are written below the picture.

        Args:
            image: the image to draw on; by default `picture`, or if that was not kept the source, which is read again.

        Returns:
            uint8 [H, W, 3] RGB.

        Raises:
            ImageError: the image can no longer be read, or was not pickled with the prediction.
        """
        categories = ", ".join(f"{label.name} {label.score:.2f}" for label in self.categories[:3])
        attributes = ", ".join(f"{label.name} {label.score:.2f}" for label in self.attributes[:6])
        picture = self._picture(image)
        (height, width), box = picture.pixels.shape[:2], self.box
        across, down = width / picture.width, height / picture.height
        corners = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        points = [Mark(point.name, point.x * across, point.y * down, point.visibility) for point in self.landmarks]
        return draw(picture.pixels, corners, points, [categories, attributes])

    def _picture(self, image: ImageSource | None) -> Picture:
        if image is None and self.picture is not None:
            return self.picture
        image = self.source if image is None else image
        if image is None:
            raise ImageError("this prediction was pickled or copied without its image: pass the image to plot")
        # the Predictor accepted this image, perhaps with higher limits than the defaults
        return read_image(image, max_pixels=max(MAX_PIXELS, self.width * self.height), max_bytes=sys.maxsize)


_FIELDS = {"category", *(field.name for field in dataclasses.fields(Prediction))}


def _as_attribute_error(kind: type[FashionInferError]) -> type[FashionInferError]:
    """A subclass that is also an AttributeError, so that `hasattr` is False and `getattr` returns its default."""
    return type(kind.__name__, (kind, AttributeError), {"__reduce__": lambda error: (kind, error.args)})


def _error_of(fields: Mapping[str, str]) -> FashionInferError:
    """Restore an error from `to_dict`; a class that this release does not have becomes a FashionInferError."""
    kind = getattr(errors, fields["type"], FashionInferError)
    is_ours = isinstance(kind, type) and issubclass(kind, FashionInferError)
    return kind(fields["message"]) if is_ours else FashionInferError(fields["message"])


def from_outputs(row: dict[str, Float32s], crop: Crop, spec: ModelSpec, **facts: Any) -> Prediction:
    """Turn one image's outputs into a Prediction, without side effects.

    Args:
        row: the outputs of `Backend.run` without their batch axis.
        crop: the network's input and its position in the image.
        spec: the model's specification.
        facts: values of the Prediction's other fields: `source`, `width`, `height`, `timing` and perhaps `picture`.
    """
    # few calls of numpy, because each is slow here: the run of the network has evicted numpy from the caches
    scores = row["attributes"]
    (x, y), (width, height) = crop.origin, crop.size
    prediction = Prediction(
        box=(x, y, x + width, y + height),
        categories=_labels(spec.categories, row["category"], range(len(spec.categories))),
        attributes=_labels(
            spec.attributes, scores, (scores > spec.threshold).nonzero()[0].tolist(), spec.attribute_groups
        ),
        attribute_scores=scores.copy(),  # a view would keep the whole batch alive
        landmarks=_landmarks(row["landmarks"], row["visibility"], crop, spec),
        embedding=row["embedding"].copy(),
        is_garment=_is_garment(row["embedding"], spec),
        colors=None,
        **facts,
    )
    # the colours take longer than all above, and not every caller reads them; copies do not keep the batch alive
    prediction.__dict__["_look"] = sampled(crop.pixels), row["landmarks"].copy(), row["visibility"].copy()
    del prediction.__dict__["colors"]
    return prediction


def _is_garment(embedding: Float32s, spec: ModelSpec) -> float | None:
    if spec.garment_vector is None:
        return None
    logit = float(embedding @ spec.garment_vector) + spec.garment_bias
    return 0.5 + 0.5 * math.tanh(logit / 2)  # the logistic function, without overflow for large logits


def _labels(
    names: Sequence[str], scores: Float32s, which: Iterable[int], groups: Sequence[str] | None = None
) -> tuple[Label, ...]:
    """The labels at these indices, best first."""
    values = scores.tolist()
    order = sorted(which, key=values.__getitem__, reverse=True)
    return tuple(Label(names[i], values[i], "" if groups is None else groups[i]) for i in order)


def _landmarks(points: Float32s, visibility: Float32s, crop: Crop, spec: ModelSpec) -> tuple[Landmark, ...]:
    (left, top), (width, height) = crop.origin, crop.size
    landmarks = []
    for name, (x, y), scores in zip(spec.landmarks, points.tolist(), visibility.tolist(), strict=True):
        score = max(scores)
        visible = VISIBILITY_NAMES[scores.index(score)]
        landmarks.append(Landmark(name, x * width + left, y * height + top, visible, score))
    return tuple(landmarks)
