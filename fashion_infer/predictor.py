"""The Predictor: takes images and returns Predictions."""

import logging
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat, zip_longest
from time import perf_counter
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_infer.arguments import number, several, whole_number
from fashion_infer.backends import Backend, Outputs, Runner, joined, no_outputs
from fashion_infer.batching import Done, Part, Pool
from fashion_infer.errors import ImageError, UsageError
from fashion_infer.images import MAX_BYTES, MAX_PIXELS, ImageSource, read_bytes
from fashion_infer.items import Cutting, garments_of_image, parts_of_batch, rows_of_image, run_items
from fashion_infer.loading import close_backends, open_backends
from fashion_infer.machine import usable_cores
from fashion_infer.model_file import read_model
from fashion_infer.model_spec import ModelSpec
from fashion_infer.models import find_model
from fashion_infer.prediction import Prediction
from fashion_infer.preprocess import Box, Corners, parse_boxes

Boxes = Sequence[Corners | ImageError]  # from `parse_boxes`

logger = logging.getLogger("fashion_infer")


class Predictor:
    """Predict the category, attributes, landmarks and embedding of garments.

    A Predictor recognises garments; it does not locate them. Pass the boxes of a detector, or images of one garment.
    A Predictor may be used from many threads at once, and as a context manager.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | Sequence[str] | None = None,
        backend: str | None = None,
        max_batch: int = 32,
        max_delay_ms: float = 2.0,
        max_queue: int = 1024,
        sessions: int | None = None,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        keep_pictures: bool = False,
        require_hash: str | None = None,
        precision: str | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: path of a file that `fashion-infer export` wrote, or a name that `fashion-infer models` lists.
            device: "cpu", the default for .onnx files, or "cuda:0" and so on, the default for .plan files; a list of
                devices shares the work. Nothing falls back to another device.
            backend: "onnxruntime", "openvino" or "tensorrt". By default an .onnx file runs in ONNX Runtime on a CPU,
                and on a GPU through a TensorRT engine that is built on first use and kept in the user's cache folder.
            max_batch: largest number of images in one run of the network. Batches that do not fit in memory are split,
                with a warning.
            max_delay_ms: longest wait of a submitted image for others while the network is idle, milliseconds.
            max_queue: largest number of waiting images. When the queue is full, `submit` raises QueueFullError and the
                other methods wait.
            sessions: number of batches that run at once on each device.
            threads: CPU threads per session. If only one of `sessions` and `threads` is set, the cores are divided by
                it. If neither is, a batch that runs alone uses all cores, and several batches use one core each.
            max_pixels: images with more pixels are refused after their header is read.
            max_bytes: larger files are refused before they are read.
            keep_pictures: whether each Prediction keeps its decoded image, at most 960 pixels on the shorter side, so
                that `plot` does not read the image again.
            require_hash: sha256 that the file must have, in hexadecimal.
            precision: "fp16" or "bf16" for the TensorRT engine that is built from an fp32 .onnx file, checked as
                `fashion-infer export --precision` checks it. None keeps the file's precision; fp32 does not use tensor
                cores.

        Raises:
            ModelNotFoundError: there is no such file and no built-in model of that name.
            ModelError: the file is damaged, has another version or hash, or was not written by fashion-infer.
            EngineMismatchError: the .plan file is for another GPU or TensorRT version, or was modified.
            DeviceError: the device cannot be used.
            MissingExtraError: the runtime is not installed.
            PrecisionError, ParityError: the model cannot be converted to `precision`, or its results change too much.
            UsageError: the backend, precision or a device is unknown, no device is given, `model` is no path, or a
                number is out of range.
        """
        max_batch = whole_number("max_batch", max_batch)
        max_queue = whole_number("max_queue", max_queue)
        sessions = None if sessions is None else whole_number("sessions", sessions)
        threads = None if threads is None else whole_number("threads", threads)
        max_pixels = whole_number("max_pixels", max_pixels, high=sys.maxsize)
        max_bytes = whole_number("max_bytes", max_bytes, high=sys.maxsize)
        max_delay_ms = number("max_delay_ms", max_delay_ms, 0)
        file = read_model(find_model(model), require_hash=require_hash)
        with ThreadPoolExecutor(1) as executor:
            digest = executor.submit(lambda: file.sha256)  # computed while the runtime loads the file
            self._backends = open_backends(file, backend, device, sessions, threads, max_batch, precision)
        self.path = file.path  # the model file
        self.sha256: str = digest.result()  # in hexadecimal
        self.spec: ModelSpec = self._backends[0].spec
        self._max_batch, self._max_delay = max_batch, max_delay_ms / 1e3
        self._cutting = Cutting(self.spec.image_size, max_pixels, max_bytes, keep_pictures)
        runs = [
            partial(run_items, Runner(opened, session), self.spec)
            for opened in self._backends
            for session in range(opened.sessions)
        ]
        self._ahead = 2 * max(max_batch, len(runs))
        self._pool = Pool(
            runs,
            preparers=usable_cores(),
            max_batch=max_batch,
            max_queue=max_queue,
            close=partial(close_backends, self._backends),
        )
        weakref.finalize(self, self._pool.stop).atexit = False  # accepted requests are still finished
        for opened in self._backends:
            words = f"{type(opened).__name__} on {opened.device}, sessions: {opened.sessions}"
            logger.info("%s, sha256 %s: %s", file.path, self.sha256[:12], words)
        if not self.spec.trained:
            logger.warning("%s has random weights, it was never trained: its predictions mean nothing", file.path)

    @overload
    def predict(self, images: list[ImageSource] | tuple[ImageSource, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, images: ImageSource) -> Prediction: ...
    @overload
    def predict(self, images: ImageSource, *, boxes: Sequence[Box]) -> list[Prediction]: ...

    def predict(
        self, images: ImageSource | list[ImageSource] | tuple[ImageSource, ...], *, boxes: Sequence[Box] | None = None
    ) -> Prediction | list[Prediction]:
        """Recognise the garment of an image, of each image of a list, or of each box of an image.

        Args:
            images: an image of a kind that `fashion_infer.images.read_image` accepts, or a list or tuple of images.
            boxes: boxes of several garments in one image, each x1 y1 x2 y2 in pixels of the upright image.

        Returns:
            A Prediction. For a list, or with boxes, a list of the same length and order; an image or box that cannot be
            used has a Prediction with `error` set.

        Raises:
            ImageError: the single image cannot be used. Images of a list never raise it.
            TypeError: `images` is a list and boxes are passed as well.
            PredictorClosedError: the Predictor is closed.
        """
        if isinstance(images, list | tuple):
            if boxes is not None:
                raise TypeError("boxes go with one image: call predict once for each image")
            return list(self.stream(images))
        own = None if boxes is None else parse_boxes(boxes)
        result: Prediction | list[Prediction] = self._pool.result(self._submit(images, own, wait=True))
        return result

    @overload
    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction]: ...
    @overload
    def stream(self, images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]]) -> Iterator[list[Prediction]]: ...

    def stream(
        self, images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]] | None = None
    ) -> Iterator[Prediction] | Iterator[list[Prediction]]:
        """Recognise images lazily and in order; an unusable image gives a Prediction with `error` set.

        A pool of threads decodes images while the network runs. At most twice `max_batch` images, or twice the number
        of sessions if that is larger, are read ahead of the last result. Use a small `max_batch` for a live source.
        File objects are read, and arrays and PIL images are cropped, before the next image is requested, so a buffer
        may be reused. An exception of `images` is raised after the results of the earlier images.

        Args:
            images: images of the kinds that `predict` accepts.
            boxes: for each image the sequence of its boxes, in the order of the images.

        Returns:
            One Prediction for each image; with boxes, one list for each image with one Prediction for each box.

        Raises:
            TypeError: `images` is a single image, or `boxes` a text.
            UsageError: the numbers of images and of boxes' sequences differ.
            PredictorClosedError: the Predictor is closed.
        """
        images = several("images", images, np.ndarray)
        return self._stream(_in_step(images, None if boxes is None else several("boxes", boxes)))

    def _stream(self, inputs: Iterator[tuple[ImageSource, Boxes | None]]) -> Iterator[Any]:
        ahead: deque[tuple[ImageSource, Boxes | None, Future[Any]]] = deque()
        failure: Exception | None = None
        try:
            while True:
                try:
                    source, boxes = next(inputs)
                    ahead.append((source, boxes, self._submit(source, boxes, wait=True)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if len(ahead) == self._ahead:
                    yield self._result_or_failed(*ahead.popleft())
            while ahead:
                yield self._result_or_failed(*ahead.popleft())
        finally:
            for _, _, future in ahead:  # the caller stopped early and does not wait for these
                future.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # breaks a reference cycle that would keep the Predictor alive

    @overload
    def submit(self, image: ImageSource, *, deadline_ms: float | None = None) -> Future[Prediction]: ...
    @overload
    def submit(
        self, image: ImageSource, boxes: Sequence[Box], *, deadline_ms: float | None = None
    ) -> Future[list[Prediction]]: ...

    def submit(
        self, image: ImageSource, boxes: Sequence[Box] | None = None, *, deadline_ms: float | None = None
    ) -> Future[Prediction] | Future[list[Prediction]]:
        """Recognise an image in the background, in one batch with what other threads submit meanwhile.

        Args:
            image: an image of a kind that `predict` accepts. A file object is read, and an array or PIL image is
                cropped, before this method returns.
            boxes: boxes of several garments, each x1 y1 x2 y2 in pixels of the upright image.
            deadline_ms: milliseconds from now by which the network must have started to process the image.

        Returns:
            A future with the Prediction, or with boxes a list of Predictions; their `colors` are computed. It raises
            ImageError, DeadlineExceededError, or PredictorClosedError after `close(drain=False)`. It can be cancelled
            until the network starts.

        Raises:
            UsageError: `deadline_ms` is no number.
            QueueFullError: `max_queue` images are already waiting.
            PredictorClosedError: the Predictor is closed.
        """
        own = None if boxes is None else parse_boxes(boxes)
        return self._submit(image, own, wait=False, deadline_ms=deadline_ms, max_delay=self._max_delay)

    @overload
    async def apredict(self, image: ImageSource, *, deadline_ms: float | None = None) -> Prediction: ...
    @overload
    async def apredict(
        self, image: ImageSource, boxes: Sequence[Box], *, deadline_ms: float | None = None
    ) -> list[Prediction]: ...

    async def apredict(
        self, image: ImageSource, boxes: Sequence[Box] | None = None, *, deadline_ms: float | None = None
    ) -> Prediction | list[Prediction]:
        """Recognise an image in asyncio, with the errors of `submit` and its future; cancelling the task cancels it."""
        import asyncio  # slow to import; a caller who awaits has it loaded already

        submit = partial(self.submit, image, boxes, deadline_ms=deadline_ms)
        if isinstance(image, str | os.PathLike | bytes | np.ndarray):
            future: Future[Any] = submit()
        else:  # a PIL image or a file, which is read and decoded before `submit` returns
            future = await asyncio.to_thread(submit)
        result: Prediction | list[Prediction] = await asyncio.wrap_future(future)
        return result

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run the network only, for callers who decode images themselves.

        Args:
            batch: uint8 [N, S, S, 3] RGB with S = `spec.image_size`; N may be 0 or above `max_batch`.

        Returns:
            float32 outputs by name: category [N, C] and attributes [N, A] as probabilities, landmarks [N, 8, 2] as
            (x, y) in [0, 1], visibility [N, 8, 3] as probabilities, embedding [N, D] of unit length.

        Raises:
            ImageError: the batch has another dtype or shape.
        """
        parts = parts_of_batch(batch, self.spec.image_size, self._max_batch)
        if not parts:
            self._pool.check_open()
            return no_outputs(self.spec)
        return self._pool.result(self._pool.submit(lambda: parts, joined, wait=True))

    def submit_run(
        self, source: NDArray[np.uint8] | bytes, box: Box | None = None, *, deadline_ms: float | None = None
    ) -> Future[Outputs]:
        """`run` in the background, in one batch with what other threads submit meanwhile.

        Args:
            source: uint8 [N, S, S, 3] RGB with N of at least 1 and S = `spec.image_size`, or the bytes of one encoded
                image, which the Predictor decodes.
            box: box of the garment in the encoded image, x1 y1 x2 y2 in pixels of the upright image.
            deadline_ms: milliseconds from now by which the network must have started to process the batch.

        Returns:
            A future with the outputs that `run` returns; it raises the errors of the future of `submit`.

        Raises:
            ImageError: the batch has another dtype or shape.
            UsageError: `deadline_ms` is no number.
            QueueFullError: `max_queue` images are already waiting.
            PredictorClosedError: the Predictor is closed.
        """
        if isinstance(source, bytes):
            boxes = None if box is None else parse_boxes([box])
            prepare = partial(rows_of_image, self._cutting, source, boxes, perf_counter())
        else:
            prepare = partial(_identity, parts_of_batch(source, self.spec.image_size, self._max_batch))
        return self._pool.submit(prepare, joined, wait=False, max_delay=self._max_delay, deadline_ms=deadline_ms)

    @property
    def batches(self) -> dict[tuple[str, int], int]:
        """Number of batches started so far, by reason ("full", "delay", "idle", "closing") and by number of images."""
        return dict(self._pool.batches)

    @property
    def backends(self) -> list[Backend]:
        """The backends that run the model, one for each device; empty after `close()`."""
        return self._backends

    def close(self, *, drain: bool = True) -> None:
        """Free the model; later calls raise PredictorClosedError.

        Args:
            drain: whether to finish the waiting requests; otherwise they fail with PredictorClosedError.
        """
        self._pool.close(drain=drain)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drain=kind is None)

    def _submit(
        self,
        image: ImageSource,
        boxes: Boxes | None,
        *,
        wait: bool,
        deadline_ms: float | None = None,
        max_delay: float = 0.0,
    ) -> Future[Any]:
        self._pool.check_open()  # so that a closed Predictor does not read a file
        try:
            source = _keep_bytes(image, self._cutting.max_bytes)
            prepare = partial(garments_of_image, self._cutting, source, boxes, perf_counter())
            if isinstance(source, np.ndarray | Image.Image):  # the caller may change the image after this returns
                prepare = partial(_identity, prepare())
        except ImageError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        finish: Callable[[list[Any]], Any] = _the_only if boxes is None else list
        return self._pool.submit(
            prepare,
            finish if wait else lambda results: finish(_with_colors(results)),
            wait=wait,
            max_delay=max_delay,
            deadline_ms=deadline_ms,
        )

    def _result_or_failed(self, source: ImageSource, boxes: Boxes | None, future: Future[Any]) -> Any:
        try:
            return self._pool.result(future)
        except ImageError as error:
            failed = Prediction.failed(source, error)
            return failed if boxes is None else [failed] * len(boxes)


def _identity(parts: list[Part | Done]) -> list[Part | Done]:
    return parts


def _with_colors(predictions: list[Prediction]) -> list[Prediction]:
    """Compute the colours now, so that an event loop that reads them does not have to."""
    for prediction in predictions:
        getattr(prediction, "colors", None)  # a failed prediction has none
    return predictions


def _the_only(results: list[Any]) -> Any:
    (result,) = results
    return result


def _in_step(
    images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]] | None
) -> Iterator[tuple[ImageSource, Boxes | None]]:
    if boxes is None:
        yield from zip(images, repeat(None))
        return
    end: Any = object()
    for image, own in zip_longest(images, boxes, fillvalue=end):
        if image is end or own is end:
            raise UsageError("images and boxes are not equally many: stream takes the boxes of each image")
        yield image, parse_boxes(own)


def _keep_bytes(source: ImageSource, max_bytes: int) -> ImageSource:
    """Read a file object in the caller's thread, because the caller may move its position afterwards."""
    if isinstance(source, str | os.PathLike | bytes | np.ndarray | Image.Image):
        return source
    try:
        return read_bytes(source, max_bytes)
    except ImageError as error:
        raise ImageError(f"the image {error}") from error.__cause__
