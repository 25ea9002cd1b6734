"""What runs a model file: one module a runtime, each with a class of the shape below."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DeviceError
from fashion_infer.model_spec import ModelSpec

Outputs = dict[str, NDArray[np.float32]]

logger = logging.getLogger("fashion_infer")


class Backend(Protocol):
    """A loaded model. `run` may be called from many threads at once.

    Attributes:
        path: of the model file.
        spec: what the file says of itself.
        device: "cpu", "cuda:0", ...
        sessions: how many runs at once it is made for; one more waits for another's end or slows the others down.
    """

    path: Path
    spec: ModelSpec
    device: str
    sessions: int

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run a batch.

        Args:
            batch: uint8 [N, S, S, 3] RGB; N may be 0.

        Returns:
            float32 by output name, each [N, ...].

        Raises:
            MemoryError: the batch does not fit in the device's memory; a smaller one may.
            ModelError: the runtime failed.
        """
        ...


@dataclass
class Network:
    """A backend that takes a batch of any size.

    Attributes:
        backend: that runs it.
        max_batch: images of one run, at most; falls when a run did not fit in memory.
    """

    backend: Backend
    max_batch: int

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """`Backend.run`, in parts.

        Raises:
            DeviceError: not even one image fits in memory.
            ModelError: the runtime failed.
        """
        parts = [self._run_part(batch[: self.max_batch])]
        done = len(parts[0]["category"])
        while done < len(batch):
            parts.append(self._run_part(batch[done : done + self.max_batch]))
            done += len(parts[-1]["category"])
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _run_part(self, part: NDArray[np.uint8]) -> Outputs:
        """The outputs of as many of the first images as fit in memory."""
        while True:
            try:
                return self.backend.run(part)
            except MemoryError as error:
                if len(part) <= 1:
                    name = self.backend.device
                    raise DeviceError(f"{name} has too little memory free for one image of this model") from error
                part = part[: len(part) // 2]
                self.max_batch = min(self.max_batch, len(part))
                logger.warning("%s: going on with batches of %d", error, len(part))
