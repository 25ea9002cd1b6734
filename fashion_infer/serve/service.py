"""The Predictor and the gallery as coroutines, so that no endpoint blocks the event loop."""

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

MAX_WAITING = 64  # most calls that wait for, or run in, the threads of one kind
WARM_UP = 16  # pictures that the model processes before the server is ready

Result = TypeVar("Result")
logger = logging.getLogger("fashion_infer")


class Threads:
    """A few threads for calls that block, with a bounded queue."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=f"fashion-infer-{name}")
        self._name = name
        self._pending = 0

    async def run(self, function: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Call a function in one of the threads and return its result.

        Raises:
            QueueFullError: too many calls are already waiting.
        """
        if self._pending >= MAX_WAITING:
            raise QueueFullError(f"{MAX_WAITING} requests are already waiting for the {self._name}: try again later")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **options))
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Cancel the waiting calls, and wait until the running ones have finished."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Service:
    """One Predictor and an optional Gallery, shared by all requests.

    Attributes:
        predictor: the Predictor. Requests await its results; only the warm-up and the gallery's writer call it in a
            thread that blocks.
        gallery: the gallery, None for a server without one.
        admission: the limit on the waiting time of images.
        metrics: the Prometheus metrics.
        warm: whether the warm-up has finished.
    """

    def __init__(self, predictor: Predictor, gallery: Gallery | None, max_wait: float) -> None:
        self.predictor, self.gallery = predictor, gallery
        self.admission = Admission(max_wait, usable_cores())
        self.metrics = Metrics(predictor, self.admission)
        self.warm = False
        self._readers = Threads(usable_cores(), "gallery")
        self._writer = Threads(1, "gallery's writer")  # a gallery allows only one writer at a time

    def model_name(self) -> str:
        """The model's name in KServe v2 and on the page: the name of its file without the suffix."""
        return self.predictor.path.stem

    async def warm_up(self) -> None:
        """Run the model on a few pictures, and measure its pace for the admission of images."""
        picture = BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).resize((1024, 1024)).save(picture, "JPEG")
        pictures: list[Any] = [picture.getvalue()] * WARM_UP
        for _ in range(2):  # only the second time is kept: the first run allocates the memory
            start = monotonic()
            await self._readers.run(self.predictor.predict, pictures)
            self.admission.per_image = (monotonic() - start) / WARM_UP
        self.warm = True

    def is_ready(self) -> bool:
        """Whether the server can answer requests now."""
        return self.warm and not self.admission.is_stalled()

    async def predict(self, image: bytes, boxes: Sequence[Box] | None, deadline: float | None) -> list[Prediction]:
        """Recognise the garment of the whole image, or of each of its boxes.

        Args:
            image: the encoded image.
            boxes: the boxes, each x1 y1 x2 y2 in pixels of the upright image; None for the whole image.
            deadline: latest start of the network, seconds on the monotonic clock; None for no deadline.

        Returns:
            One Prediction, or one for each box; a box that cannot be used gives a Prediction with `error`.

        Raises:
            RefusedError: the image would wait too long.
            ImageError: the image cannot be used.
            QueueFullError: the Predictor's queue is full.
            DeadlineExceededError: the deadline passed before the network started.
            PredictorClosedError: the Predictor is closed.
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
        """Run the network on encoded images or on batches, without making Predictions of its outputs.

        Args:
            sources: one or more encoded images with an optional box each, or batches uint8 [N, S, S, 3] without boxes.
            images: number of images in all sources together.
            deadline: latest start of the network, seconds on the monotonic clock; None for no deadline.

        Returns:
            The network's outputs by name, float32 [images, ...], in the order of the sources.

        Raises:
            RefusedError, QueueFullError, DeadlineExceededError, PredictorClosedError: as for `predict`.
            ImageError: an image, box or batch cannot be used.
        """
        with self.admission.admitted(images):
            futures = []
            try:
                for source, box in sources:
                    futures.append(self.predictor.submit_run(source, box, deadline_ms=_left(deadline)))
                parts = [await asyncio.wrap_future(future) for future in futures]
            finally:
                for future in futures:  # if one failed or the client left, the others are not needed
                    future.cancel()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def read(self, function: Callable[[Gallery], Result]) -> Result:
        """Call a function that only reads the gallery; several may run at the same time.

        Args:
            function: the function, which gets the gallery and runs in a thread.

        Raises:
            RefusedError: the server has no gallery.
            QueueFullError: too many calls are already waiting.
        """
        return await self._readers.run(function, self.needed_gallery())

    async def write(self, function: Callable[[Gallery], Result]) -> Result:
        """Call a function that changes the gallery, like `read`; only one runs at a time."""
        return await self._writer.run(function, self.needed_gallery())

    async def in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a slow function that does not need the gallery in a thread."""
        return await self._readers.run(function, *args)

    def close(self) -> None:
        """End the threads; the Predictor and the Gallery stay open, because the caller closes them."""
        self._readers.close()
        self._writer.close()

    def needed_gallery(self) -> Gallery:
        """The gallery; raises RefusedError (404) if the server has none."""
        if self.gallery is None:
            detail = "this server has no gallery: start it with fashion-infer serve MODEL --gallery PLACE"
            raise RefusedError(404, detail, name="NoGalleryError")
        return self.gallery


def _left(deadline: float | None) -> float | None:
    """Milliseconds until a deadline on the monotonic clock; None without a deadline."""
    return None if deadline is None else (deadline - monotonic()) * 1e3
