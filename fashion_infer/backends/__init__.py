"""What runs a model file: one module a runtime, each with a class of the shape below."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.model_spec import ModelSpec

Outputs = dict[str, NDArray[np.float32]]


class Backend(Protocol):
    """A loaded model. `run` may be called from many threads at once."""

    path: Path
    spec: ModelSpec
    device: str

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; N may be 0."""
        ...
