"""ModelSpec: the description of a model inside its file, written by the exporter and read by every backend."""

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
PREPROCESSING_VERSION = 1  # increased when `preprocess.crop` gives other pixels for the same box
MIN_EMBEDDING_COSINE = 0.99  # smallest mean cosine, over real pictures, of two files with comparable embeddings
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
    """The meaning of a network's inputs and outputs, stored as JSON inside the model file.

    Attributes:
        arch: name of the backbone: `vgg16`, the paper's, or a name in timm.
        image_size: side S of the square input, pixels.
        categories: C category names in the order of the `category` output.
        attributes: A attribute names in the order of the `attributes` output.
        attribute_groups: group of each attribute (texture, fabric, ...), A names.
        embedding_dim: length D of the embedding.
        trained: False for random weights; loading such a model logs a warning.
        weights_sha256: hash of the weights that the file was made from, in hexadecimal.
        threshold: attributes with a higher score are reported, in [0, 1].
        temperature: divisor of the category logits inside the model, above 0.
        landmarks: landmark names in the order of the `landmarks` output.
        garment_weights: D weights of the garment score 1 / (1 + exp(-(weights . embedding + bias))), the probability
            that the crop shows a garment, calibrated to the threshold 0.5; None for a model without this score.
        garment_bias: bias of the garment score.
        embedding_sha256: hash of the weights that influence the embedding, in hexadecimal. Empty in files of earlier
            releases, and in a checkpoint unless its embedding is unchanged from a file that has the hash.
        embedding_cosine: mean cosine between the embeddings of this file and of the file that it was converted from,
            measured on real pictures; None if the file was not converted, or not compared.
        version: version of this layout.
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
        """The name of the embedding space, 16 hexadecimal digits: only embeddings of the same space can be compared.

        It is a hash of `embedding_sha256`, the embedding's length, the image size and the version of the preprocessing.
        A file without `embedding_sha256` uses the hash of all weights, so files made from one checkpoint share a space.
        """
        weights = self.embedding_sha256 or self.weights_sha256
        facts = f"{weights} {self.embedding_dim} {self.image_size} {PREPROCESSING_VERSION}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output without its batch axis, by name."""
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
        """Write one line of JSON, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read the JSON that `to_json` wrote.

        Raises:
            ModelError: the text is not JSON, is of another version, or has a field that is missing, unknown or of the
                wrong type.
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
_ITEMS: dict[str, tuple[type, ...]] = {
    "garment_weights": (int, float)
}  # types of a list's items; lists that are not named contain strings


def _field(name: str, value: Any) -> Any:
    """Check the type of a field, and make a tuple of a list; unknown fields pass, because the class refuses them."""
    fits = name not in _TYPES or type(value) in _TYPES[name]  # not isinstance, because True is an int
    if not fits or (isinstance(value, list) and not all(type(item) in _ITEMS.get(name, (str,)) for item in value)):
        raise TypeError(f"{name} is {value!r}")
    return tuple(value) if isinstance(value, list) else value
