"""The runtimes that run model files: one module for each, with a class that has the methods of `Backend`."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DeviceError
from fashion_infer.model_spec import ModelSpec

Outputs = dict[str, NDArray[np.float32]]

RETRY_SECONDS = 60.0  # after a batch did not fit in memory, until a batch of that size is tried again

logger = logging.getLogger("fashion_infer")


class Backend(Protocol):
    """A loaded model.

    Attributes:
        path: path of the model file.
        spec: the model's specification, read from the file.
        device: "cpu", "cuda:0", ...
        sessions: number of batches that can run at once.
    """

    path: Path
    spec: ModelSpec
    device: str
    sessions: int

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """Run a batch.

        Args:
            batch: uint8 [N, S, S, 3] RGB, N at least 1.
            session: index of the session that runs the batch, from 0; each session runs one batch at a time.

        Returns:
            float32 outputs by name, each [N, ...]. The arrays are not reused by later runs.

        Raises:
            MemoryError: the batch does not fit in the device's memory; a smaller one may.
            ModelError: the runtime failed.
            DeviceError: the device failed, and every later run will fail as well.
        """
        ...

    def input_memory(self, count: int, session: int = 0) -> NDArray[np.uint8] | None:
        """Memory for a batch that `run` reads without a copy of its own.

        Args:
            count: images in the batch, at least 1.
            session: the session that will run it. Its memory is overwritten by the session's next run.

        Returns:
            uint8 [count, S, S, 3]; None when the runtime has no such memory for a batch of this size.
        """
        ...

    def close(self) -> None:
        """Free the runtime's memory; called once, after the last run."""
        ...


class Runner:
    """One session of a backend; a batch that does not fit in memory is run in smaller parts."""

    def __init__(self, backend: Backend, session: int = 0) -> None:
        """Wrap session number `session` of a loaded backend."""
        self.backend, self._session = backend, session
        self._fits = 0  # the batch size that fitted in memory, used until `_retry_at`
        self._retry_at = 0.0  # when larger batches are tried again, in seconds on the monotonic clock

    def run(self, rows: Sequence[NDArray[np.uint8]]) -> Outputs:
        """Run one batch that comes in pieces, in parts if it does not fit in memory.

        Args:
            rows: at least one piece, each uint8 [N, S, S, 3] with at least one image.

        Returns:
            The outputs of `Backend.run` for the pieces in order.

        Raises:
            DeviceError: a single image does not fit in memory, or the device failed.
            ModelError: the runtime failed.
        """
        count = sum(map(len, rows))
        size = count if monotonic() >= self._retry_at else min(count, self._fits)
        while True:
            try:
                batch = self._batch(rows, count)
                return run_in_parts(lambda part: self.backend.run(part, self._session), batch, size)
            except MemoryError as error:
                if size <= 1:
                    name = self.backend.device
                    raise DeviceError(f"{name} has too little memory free for one image of this model") from error
                size //= 2
                self._fits, self._retry_at = size, monotonic() + RETRY_SECONDS
                logger.warning("%s: going on with batches of %d for %g seconds", error, size, RETRY_SECONDS)

    def _batch(self, rows: Sequence[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
        if len(rows) == 1:
            return rows[0]
        # A part of a batch may overwrite pictures that ran before it; after a failure the whole batch is gathered anew
        return np.concatenate(rows, out=self.backend.input_memory(count, self._session))


def run_in_parts(run: Callable[[NDArray[np.uint8]], Outputs], batch: NDArray[np.uint8], size: int) -> Outputs:
    """Run a batch of at least one image in parts of at most `size` images."""
    return joined([run(batch[start : start + size]) for start in range(0, len(batch), size)])


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Concatenate the outputs of one or more batches along the batch axis."""
    return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def no_outputs(spec: ModelSpec) -> Outputs:
    """The outputs of an empty batch, each float32 [0, ...]."""
    return {name: np.zeros((0, *shape), np.float32) for name, shape in spec.output_shapes().items()}
