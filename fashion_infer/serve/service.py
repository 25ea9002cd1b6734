"""What the endpoints call: the Predictor's queue and the gallery's threads, awaited, and nothing that blocks."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from time import monotonic
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_infer.backends import Outputs
from fashion_infer.errors import QueueFullError
from fashion_infer.gallery import Gallery
from fashion_infer.machine import usable_cores
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import Box
from fashion_infer.serve.admission import Admission
from fashion_infer.serve.metrics import Metrics
from fashion_infer.serve.problems import RefusedError

MAX_WAITING = 64  # for the gallery's threads
WARM_UP = 16  # pictures

Result = TypeVar("Result")
logger = logging.getLogger("fashion_infer")


class Threads:
    """A few threads for what blocks, and a bounded queue before them."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"fashion-infer-{name}")
        self._name = name
        self._pending = 0

    async def run(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Call a function in one of the threads.

        Raises:
            QueueFullError: too many calls wait already.
        """
        if self._pending >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} requests wait for the {self._name} already: try again later")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **options))
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Let what runs come to its end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Service:
    """One Predictor, and perhaps one Gallery, for many requests at once.

    Attributes:
        predictor: never used by a thread that waits for it, but for the gallery's writer.
        gallery: None where there is none.
        admission: of images to the Predictor.
        metrics: what is counted on the way.
        warm: whether the model has run.
    """

    def __init__(self, predictor: Predictor, gallery: Gallery | None, max_wait: float) -> None:
        self.predictor, self.gallery = predictor, gallery
        self.admission = Admission(max_wait, usable_cores())
        self.metrics = Metrics(predictor, self.admission)
        self.warm = False
        self._readers = Threads(usable_cores(), "gallery")
        self._writer = Threads(1, "gallery's writer")  # one at a time writes to a gallery anyway

    def model_name(self) -> str:
        """The name that the model goes by: its file's, without the suffix."""
        return self.predictor.path.stem

    async def warm_up(self) -> None:
        """Run the model, and learn how fast it is."""
        picture = BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).resize((1024, 1024)).save(picture, "JPEG")
        pictures: list[Any] = [picture.getvalue()] * WARM_UP
        for _ in range(2):  # the first time for the memory that the second does not need to ask for
            start = monotonic()
            await self._readers.run(self.predictor.predict, pictures)
            self.admission.per_image = (monotonic() - start) / WARM_UP
        self.warm = True

    def is_ready(self) -> bool:
        """Whether requests would be answered now."""
        return self.warm and not self.admission.is_stalled()

    async def predict(self, image: bytes, boxes: Sequence[Box] | None, deadline: float | None) -> list[Prediction]:
        """Predictions of the whole image, or of each of its boxes.

        Args:
            image: encoded.
            boxes: x1 y1 x2 y2 each, pixels of the upright image.
            deadline: on the monotonic clock, by which the network must have started.

        Raises:
            RefusedError: it would wait too long.
            ImageError: the image is bad; a bad box gives a Prediction with `error`.
            QueueFullError, DeadlineExceededError, PredictorClosedError: as they say.
        """
        with self.admission.admitted(1 if boxes is None else max(1, len(boxes))):
            if boxes is None:
                predictions = [await self.predictor.apredict(image, deadline_ms=_left(deadline))]
            else:
                predictions = await self.predictor.apredict(image, boxes, deadline_ms=_left(deadline))
        for prediction in predictions:
            if prediction.error is None:
                self.metrics.observe(prediction.timing)
        return predictions

    async def run(
        self, sources: Sequence[tuple[bytes | NDArray[np.uint8], Box | None]], images: int, deadline: float | None
    ) -> Outputs:
        """The network's outputs as they are, of encoded images with their boxes, or of batches.

        Args:
            sources: at least one.
            images: how many they are together.
            deadline: as `predict`.

        Raises:
            RefusedError, ImageError, QueueFullError, DeadlineExceededError, PredictorClosedError: as `predict`.
        """
        with self.admission.admitted(images):
            futures = []
            try:
                for source, box in sources:
                    futures.append(self.predictor.submit_run(source, box, deadline_ms=_left(deadline)))
                parts = [await asyncio.wrap_future(future) for future in futures]
            finally:
                for future in futures:  # of the others, when one failed or the client has gone
                    future.cancel()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def read(self, function: Callable[[Gallery], Result]) -> Result:
        """Call a function with the gallery, in a thread; any number read at once.

        Raises:
            RefusedError: there is no gallery.
            QueueFullError: too many wait already.
        """
        return await self._readers.run(function, self.needed_gallery())

    async def write(self, function: Callable[[Gallery], Result]) -> Result:
        """The same for a function that changes the gallery; one at a time."""
        return await self._writer.run(function, self.needed_gallery())

    async def in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function that takes its time, but needs no gallery."""
        return await self._readers.run(function, *args)

    def close(self) -> None:
        """Let the threads come to their end; Predictor and Gallery stay open, they are the caller's."""
        self._readers.close()
        self._writer.close()

    def needed_gallery(self) -> Gallery:
        """The gallery; RefusedError (404) where there is none."""
        if self.gallery is None:
            detail = "this server has no gallery: start it with fashion-infer serve MODEL --gallery PLACE"
            raise RefusedError(404, detail, name="NoGalleryError")
        return self.gallery


def _left(deadline: float | None) -> float | None:
    """Milliseconds until a deadline."""
    return None if deadline is None else (deadline - monotonic()) * 1e3
