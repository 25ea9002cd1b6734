"""ModelSpec: what a model file says about itself, written by the exporter and read by every backend."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import ModelError

SPEC_VERSION = 1
PREPROCESSING_VERSION = 1  # of `preprocess.crop`: raised when the network gets other pixels for the same box
MIN_EMBEDDING_COSINE = 0.99  # on average over real pictures, of two files whose embeddings may be compared
METADATA_KEY = "fashion_infer.model_spec"
PARITY_KEY = "fashion_infer.parity"
INPUT_NAME = "images"
OUTPUT_NAMES = ("category", "attributes", "landmarks", "visibility", "embedding")
LANDMARK_NAMES = (
    "left_collar",
    "right_collar",
    "left_sleeve",
    "right_sleeve",
    "left_waistline",
    "right_waistline",
    "left_hem",
    "right_hem",
)
VISIBILITY_NAMES = ("visible", "occluded", "truncated")


@dataclass(frozen=True)
class ModelSpec:
    """Everything that turns a network's numbers into words; stored as JSON inside the model file.

    Attributes:
        arch: the backbone, `vgg16` for the paper's or a timm name.
        image_size: side S of the square input, pixels.
        categories: the C category names in the order of the `category` output.
        attributes: the A attribute names in the order of the `attributes` output.
        attribute_groups: the group of each attribute (texture, fabric, ...), A long.
        embedding_dim: length D of the embedding.
        trained: False for random weights; such a model warns when it is loaded.
        weights_sha256: hash of the weights the file was made from, in hexadecimal.
        threshold: attributes that score above it are reported, in [0, 1].
        temperature: the category logits are divided by it inside the model; > 0.
        landmarks: the landmark names in the order of the `landmarks` output.
        garment_weights: D numbers. That there is a garment at all scores 1 / (1 + exp(-(weights . embedding + bias))),
            calibrated so that 0.5 is the threshold; None for a model that was not taught to tell.
        garment_bias: of that score.
        embedding_sha256: hash of the weights that reach the embedding, in hexadecimal; empty in files of earlier
            releases, and in a checkpoint unless its embedding is still that of a file that has one.
        embedding_cosine: of a file in another precision than the one it was converted from, the mean cosine of the two
            files' embeddings on real pictures; None where it was not converted, or not compared.
        version: of this layout.
    """

    arch: str
    image_size: int
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    attribute_groups: tuple[str, ...]
    embedding_dim: int
    trained: bool
    weights_sha256: str
    threshold: float = 0.5
    temperature: float = 1.0
    landmarks: tuple[str, ...] = LANDMARK_NAMES
    garment_weights: tuple[float, ...] | None = None
    garment_bias: float = 0.0
    embedding_sha256: str = ""
    embedding_cosine: float | None = None
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        if len(self.attributes) != len(self.attribute_groups):
            raise ModelError(
                f"the ModelSpec names {len(self.attributes)} attributes but {len(self.attribute_groups)} groups of them"
            )
        if self.garment_weights is not None and len(self.garment_weights) != self.embedding_dim:
            raise ModelError(
                f"the ModelSpec has {len(self.garment_weights)} garment weights, its embedding has {self.embedding_dim}"
            )
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise ModelError("the ModelSpec must name at least one category, and none of them twice")
        if self.image_size < 1 or self.embedding_dim < 1:
            raise ModelError(
                f"the ModelSpec's sizes must be at least 1, got image_size {self.image_size} and embedding_dim "
                f"{self.embedding_dim}"
            )
        if not 0 <= self.threshold <= 1:
            raise ModelError(f"the ModelSpec's threshold must lie in [0, 1], got {self.threshold}")
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"the ModelSpec's temperature must be a finite number above 0, got {self.temperature}")
        if not all(map(math.isfinite, (*(self.garment_weights or ()), self.garment_bias))):
            raise ModelError("the ModelSpec's garment weights and bias must be finite numbers")

    @cached_property
    def garment_vector(self) -> NDArray[np.float32] | None:
        """`garment_weights` as float32 [D]."""
        return None if self.garment_weights is None else np.array(self.garment_weights, np.float32)

    @property
    def embedding_space(self) -> str:
        """The name of the space of the embeddings, 16 hexadecimal digits: only those of one space can be compared.

        It hangs on the weights that reach the embedding, the embedding's size and the version of the preprocessing. A
        file without `embedding_sha256` is named after all of its weights, so files made from one checkpoint share one.
        """
        weights = self.embedding_sha256 or self.weights_sha256
        facts = f"{weights} {self.embedding_dim} {self.image_size} {PREPROCESSING_VERSION}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output without its batch axis."""
        points = len(self.landmarks)
        shapes = (
            (len(self.categories),),
            (len(self.attributes),),
            (points, 2),
            (points, len(VISIBILITY_NAMES)),
            (self.embedding_dim,),
        )
        return dict(zip(OUTPUT_NAMES, shapes, strict=True))

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read what `to_json` wrote.

        Raises:
            ModelError: not JSON, another version, or fields that are missing, unknown or of the wrong type.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the ModelSpec is not JSON: {error}") from error
        version = fields.get("version") if isinstance(fields, dict) else None
        if version != SPEC_VERSION:
            raise ModelError(
                f"the ModelSpec has version {version!r}, this release of fashion-infer reads {SPEC_VERSION}: "
                "export the model again, or install the release that wrote it"
            )
        try:
            return cls(**{name: _field(name, value) for name, value in fields.items()})
        except TypeError as error:
            raise ModelError(f"the ModelSpec is not one of ours: {error}") from error


_TYPES: dict[str, tuple[type, ...]] = {
    "arch": (str,),
    "image_size": (int,),
    "categories": (list,),
    "attributes": (list,),
    "attribute_groups": (list,),
    "embedding_dim": (int,),
    "trained": (bool,),
    "weights_sha256": (str,),
    "threshold": (int, float),
    "temperature": (int, float),
    "landmarks": (list,),
    "garment_weights": (list, NoneType),
    "garment_bias": (int, float),
    "embedding_sha256": (str,),
    "embedding_cosine": (int, float, NoneType),
    "version": (int,),
}
_ITEMS: dict[str, tuple[type, ...]] = {"garment_weights": (int, float)}  # of a list; else words


def _field(name: str, value: Any) -> Any:
    fits = name not in _TYPES or type(value) in _TYPES[name]  # not isinstance: True is an int
    if not fits or (isinstance(value, list) and not all(type(item) in _ITEMS.get(name, (str,)) for item in value)):
        raise TypeError(f"{name} is {value!r}")
    return tuple(value) if isinstance(value, list) else value
