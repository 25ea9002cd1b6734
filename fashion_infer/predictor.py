"""Images in, Predictions out: the one path that every caller takes."""

import logging
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat, zip_longest
from numbers import Integral, Real
from time import perf_counter
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
from fashion_infer.preprocess import Box

logger = logging.getLogger("fashion_infer")


class Predictor:
    """Clothing category, attributes, landmarks and an embedding of each garment given to it.

    It recognises garments; it does not find them. Give boxes from a detector, or images that show one garment.
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
            max_batch: images that go through the network at once, at most. Where they do not fit in memory, fewer go,
                with a warning.
            max_delay_ms: milliseconds that a submitted image may wait for others when the network is idle.
            max_queue: images that wait for the network at once, at most; one more is refused by `submit` and held back
                by the other methods.
            sessions: batches that run at once on each device.
            threads: of one batch on the CPU. Given one of the two, the cores are shared out; given neither, a batch
                that is alone has all cores, and where there are more each core runs its own on one thread.
            max_pixels: images with more pixels are refused from their header.
            max_bytes: larger files are refused before they are read.
            keep_pictures: each Prediction keeps what was decoded of its image, at most 960 pixels on the shorter side,
                so that `plot` does not read the image again.
            require_hash: sha256 that the file must have, in hexadecimal.
            precision: "fp16" or "bf16" for the TensorRT engine that is built from an fp32 .onnx file, checked as
                `fashion-infer export --precision` checks it. When None the file's own: fp32 uses no tensor cores.

        Raises:
            ModelNotFoundError: no such file, and no built-in model of that name.
            ModelError: not a model of ours, damaged, of another version or another hash.
            EngineMismatchError: a .plan for another GPU or TensorRT, or one that was changed.
            DeviceError: the device cannot be used.
            MissingExtraError: the runtime is not installed.
            PrecisionError, ParityError: the model cannot have the precision asked for, or answers otherwise in it.
            UsageError: an unknown backend or precision, no device, or a number that must be larger.
        """
        _check_counts(max_batch=max_batch, max_queue=max_queue, sessions=sessions, threads=threads)
        _check_delay(max_delay_ms)
        file = read_model(find_model(model), require_hash=require_hash)
        with ThreadPoolExecutor(1) as beside:
            hashed = beside.submit(lambda: file.sha256)
            self._backends = open_backends(file, backend, device, sessions, threads, max_batch, precision)
        self.path = file.path  # of the model file
        self.sha256: str = hashed.result()  # in hexadecimal
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
        weakref.finalize(self, self._pool.stop).atexit = False  # what was accepted is answered all the same
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
            images: an image as `fashion_infer.images.read_image` takes it, or a list or tuple of them.
            boxes: of several garments of one image, each x1 y1 x2 y2 in pixels of the upright image.

        Returns:
            A Prediction; for a list or with boxes a list of the same length and order, in which a bad image or a bad
            box gives a Prediction with `error` set.

        Raises:
            ImageError: the only image is bad. In a list nothing is raised.
            TypeError: a list together with boxes.
            PredictorClosedError: after `close()`.
        """
        if isinstance(images, list | tuple):
            if boxes is not None:
                raise TypeError("boxes go with one image: call predict once an image")
            return list(self.stream(images))
        result: Prediction | list[Prediction] = self._pool.result(self._submit(images, boxes, wait=True))
        return result

    @overload
    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction]: ...
    @overload
    def stream(self, images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]]) -> Iterator[list[Prediction]]: ...

    def stream(
        self, images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]] | None = None
    ) -> Iterator[Prediction] | Iterator[list[Prediction]]:
        """Recognise images lazily and in order; a bad image gives a Prediction with `error` set.

        Images are decoded by a pool of threads while the network runs. At most twice `max_batch` images, or twice as
        many as there are sessions where that is more, are read ahead of the last result, so a live source wants a
        small `max_batch`. Files are read and arrays and PIL images are cut before the next image is asked for, so a
        buffer may be filled again. What `images` raises is raised after the results of the images before it.

        Args:
            images: as `predict` takes each.
            boxes: those of each image, in step with the images.

        Returns:
            A Prediction an image; with boxes a list an image, a Prediction a box.

        Raises:
            TypeError: one image instead of several.
            UsageError: there are more images than boxes, or fewer.
            PredictorClosedError: after `close()`.
        """
        if isinstance(images, str | os.PathLike | bytes | np.ndarray | Image.Image) or hasattr(images, "read"):
            raise TypeError(f"stream takes an iterable of images, not one {type(images).__name__}: see predict")
        return self._stream(_in_step(images, boxes))

    def _stream(self, inputs: Iterator[tuple[ImageSource, Sequence[Box] | None]]) -> Iterator[Any]:
        ahead: deque[tuple[ImageSource, Sequence[Box] | None, Future[Any]]] = deque()
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
            for _, _, future in ahead:  # left early: nobody waits for these
                future.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or this frame and the error would keep each other, and the Predictor, alive

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
            image: as `predict` takes it. A file is read, and an array or a PIL image is cut, before this returns.
            boxes: of several garments, as `predict` takes them.
            deadline_ms: milliseconds from now by which the network must have started on it.

        Returns:
            Gives the Prediction, with boxes a list of them, or raises ImageError, DeadlineExceededError, or
            PredictorClosedError after `close(drain=False)`. Cancelling it works until the network starts.

        Raises:
            QueueFullError: `max_queue` images wait already.
            PredictorClosedError: after `close()`.
        """
        return self._submit(image, boxes, wait=False, deadline_ms=deadline_ms, max_delay=self._max_delay)

    @overload
    async def apredict(self, image: ImageSource, *, deadline_ms: float | None = None) -> Prediction: ...
    @overload
    async def apredict(
        self, image: ImageSource, boxes: Sequence[Box], *, deadline_ms: float | None = None
    ) -> list[Prediction]: ...

    async def apredict(
        self, image: ImageSource, boxes: Sequence[Box] | None = None, *, deadline_ms: float | None = None
    ) -> Prediction | list[Prediction]:
        """`submit` for asyncio: raises what it and its future raise; cancelling the task cancels the request."""
        import asyncio  # here, because it is slow to import; whoever awaits has it already

        submit = partial(self._submit, image, boxes, wait=False, deadline_ms=deadline_ms, max_delay=self._max_delay)
        if isinstance(image, Image.Image) or hasattr(image, "read"):  # read and decoded before `submit` returns
            future: Future[Any] = await asyncio.to_thread(submit)
        else:
            future = submit()
        result: Prediction | list[Prediction] = await asyncio.wrap_future(future)
        return result

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run the network alone, for callers who decode elsewhere.

        Args:
            batch: uint8 [N, S, S, 3] RGB with S = `spec.image_size`; N may be 0 or above `max_batch`.

        Returns:
            float32 by name: category [N, C] and attributes [N, A] probabilities, landmarks [N, 8, 2] as (x, y) in
            [0, 1], visibility [N, 8, 3] probabilities, embedding [N, D] of unit length.

        Raises:
            ImageError: the batch has another type or shape.
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
            source: a batch as `run` takes it, of at least one image, or one encoded image, which is decoded here.
            box: of the garment in the encoded image, x1 y1 x2 y2 in pixels of the upright image.
            deadline_ms: as `submit` takes it.

        Returns:
            Gives the outputs as `run` does, or raises what the future of `submit` raises.

        Raises:
            ImageError: the batch has another type or shape.
            QueueFullError, PredictorClosedError: as `submit`.
        """
        if isinstance(source, bytes):
            prepare = partial(rows_of_image, self._cutting, source, box, perf_counter())
        else:
            prepare = partial(_as_it_is, parts_of_batch(source, self.spec.image_size, self._max_batch))
        return self._pool.submit(prepare, joined, wait=False, max_delay=self._max_delay, deadline_ms=deadline_ms)

    @property
    def batches(self) -> dict[tuple[str, int], int]:
        """How many batches have started, by why ("full", "delay", "idle", "closing") and by their images."""
        return dict(self._pool.batches)

    @property
    def backends(self) -> list[Backend]:
        """What runs the model, one for each device; none once closed."""
        return self._backends

    def close(self, *, drain: bool = True) -> None:
        """Free the model; later calls raise PredictorClosedError.

        Args:
            drain: finish what was submitted; else what has not started fails with PredictorClosedError.
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
        boxes: Sequence[Box] | None,
        *,
        wait: bool,
        deadline_ms: float | None = None,
        max_delay: float = 0.0,
    ) -> Future[Any]:
        self._pool.check_open()  # before a file is read
        try:
            source = _keep_bytes(image, self._cutting.max_bytes)
            prepare = partial(garments_of_image, self._cutting, source, boxes, perf_counter())
            if isinstance(source, np.ndarray | Image.Image):  # what may change once the caller goes on
                prepare = partial(_as_it_is, prepare())
        except ImageError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        return self._pool.submit(
            prepare,
            _the_only if boxes is None else list,
            wait=wait,
            max_delay=max_delay,
            deadline_ms=deadline_ms,
        )

    def _result_or_failed(self, source: ImageSource, boxes: Sequence[Box] | None, future: Future[Any]) -> Any:
        try:
            return self._pool.result(future)
        except ImageError as error:
            failed = Prediction.failed(source, error)
            return failed if boxes is None else [failed] * len(boxes)


def _as_it_is(parts: list[Part | Done]) -> list[Part | Done]:
    return parts


def _the_only(results: list[Any]) -> Any:
    (result,) = results
    return result


def _in_step(
    images: Iterable[ImageSource], boxes: Iterable[Sequence[Box]] | None
) -> Iterator[tuple[ImageSource, Sequence[Box] | None]]:
    if boxes is None:
        yield from zip(images, repeat(None))
        return
    end = object()
    for pair in zip_longest(images, boxes, fillvalue=end):
        if any(value is end for value in pair):
            raise UsageError("images and boxes are not equally many: stream takes the boxes of each image")
        yield pair  # type: ignore[misc]


def _keep_bytes(source: ImageSource, max_bytes: int) -> ImageSource:
    """A file is read once, by the thread that gives it: another may move its place meanwhile."""
    if isinstance(source, str | os.PathLike | bytes | np.ndarray | Image.Image):
        return source
    try:
        return read_bytes(source, max_bytes)
    except ImageError as error:
        raise ImageError(f"the image {error}") from error.__cause__


def _check_counts(**counts: Any) -> None:
    for name, count in counts.items():
        if count is not None and not (isinstance(count, Integral) and int(count) >= 1):
            raise UsageError(f"{name} must be a whole number of at least 1, got {count!r}")


def _check_delay(max_delay_ms: Any) -> None:
    if not (isinstance(max_delay_ms, Real) and float(max_delay_ms) >= 0):
        raise UsageError(f"max_delay_ms must be a number of at least 0, got {max_delay_ms!r}")
