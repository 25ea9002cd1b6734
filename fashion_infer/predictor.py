"""Images in, Predictions out: the one path that every caller takes."""

import itertools
import logging
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_infer.backends import Backend, Network, Outputs
from fashion_infer.batching import Batcher, Request
from fashion_infer.devices import gpu_index
from fashion_infer.errors import ImageError, ModelError, UsageError
from fashion_infer.files import sha256_of
from fashion_infer.images import MAX_PIXELS, ImageSource, read_bytes, read_image
from fashion_infer.machine import usable_cores
from fashion_infer.model_spec import ModelSpec
from fashion_infer.models import find_model
from fashion_infer.prediction import Prediction, from_outputs
from fashion_infer.preprocess import Box, Crop, crop

logger = logging.getLogger("fashion_infer")


@dataclass
class _Garment:
    """One box of one image on its way to the network.

    Attributes:
        source: the image as it was given, or its bytes.
        width: of the upright image, pixels.
        height: likewise.
        crop: what the network gets.
        timing: milliseconds of each stage so far.
        ready: when the crop was, seconds on the performance counter.
    """

    source: ImageSource
    width: int
    height: int
    crop: Crop
    timing: dict[str, float]
    ready: float = field(default_factory=perf_counter)


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
        require_hash: str | None = None,
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
            threads: of one batch on the CPU. Given one of the two, the cores are shared out; given neither, what is
                fastest on this machine is measured when a model is first loaded, and remembered in the user's cache
                folder.
            max_pixels: images with more pixels are refused from their header.
            require_hash: sha256 that the file must have, in hexadecimal.

        Raises:
            ModelNotFoundError: no such file, and no built-in model of that name.
            ModelError: not a model of ours, damaged, of another version or another hash.
            EngineMismatchError: a .plan for another GPU or TensorRT, or one that was changed.
            DeviceError: the device cannot be used.
            MissingExtraError: the runtime is not installed.
            UsageError: an unknown backend, no device, or a number that must be larger.
        """
        numbers = {"max_batch": max_batch, "max_queue": max_queue, "sessions": sessions, "threads": threads}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, got {number}")
        if not max_delay_ms >= 0:
            raise UsageError(f"max_delay_ms must be at least 0, got {max_delay_ms}")
        path = find_model(model)
        if require_hash is not None and (found := sha256_of(path)) != require_hash.lower():
            raise ModelError(f"{path} has sha256 {found}, expected {require_hash}: it is another file, or was changed")
        devices = [device or _default_device(path)] if device is None or isinstance(device, str) else list(device)
        if not devices:
            raise UsageError("device is an empty list: name one or more")
        backends = [_open_backend(path, backend, name, sessions, threads) for name in devices]
        self.spec: ModelSpec = backends[0].spec
        self._path, self._max_pixels, self._max_batch, self._max_delay = path, max_pixels, max_batch, max_delay_ms / 1e3
        self._networks, self._turn = [Network(opened, max_batch) for opened in backends], itertools.count()
        runs = [partial(_recognise, net, self.spec) for net in self._networks for _ in range(net.backend.sessions)]
        self._batcher: Batcher[_Garment, Prediction] = Batcher(runs, max_batch=max_batch, max_queue=max_queue)
        self._decoders = ThreadPoolExecutor(usable_cores(), thread_name_prefix="fashion-infer-decode")
        weakref.finalize(self, self._batcher.stop, drain=False)  # or its threads would keep a forgotten model alive
        if not self.spec.trained:
            logger.warning("%s has random weights, it was never trained: its predictions mean nothing", path)

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
        self._batcher.check_open()
        if boxes is not None and len(boxes) == 0:
            return []
        source = _keep_bytes(images)
        cuts = self._prepare(source, boxes)
        predictions = iter(self._batcher.call([cut for cut in cuts if isinstance(cut, _Garment)]))
        if boxes is None:
            return next(predictions)
        return [Prediction.failed(source, cut) if isinstance(cut, ImageError) else next(predictions) for cut in cuts]

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction]:
        """Recognise images lazily and in order; a bad image gives a Prediction with `error` set.

        Images are decoded by a pool of threads while the network runs. At most twice `max_batch` images are read
        ahead of the last result, so a live source wants a small `max_batch`.
        """
        ahead: deque[tuple[ImageSource, Future[Prediction]]] = deque()
        for image in images:
            ahead.append((image, self._submit(image, wait=True)))
            if len(ahead) == 2 * self._max_batch:
                yield _result_or_failed(*ahead.popleft())
        while ahead:
            yield _result_or_failed(*ahead.popleft())

    def submit(self, image: ImageSource, *, deadline_ms: float | None = None) -> Future[Prediction]:
        """Recognise an image in the background, in one batch with what other threads submit meanwhile.

        Args:
            image: as `predict` takes it; not to be changed before the result is there.
            deadline_ms: milliseconds from now by which the network must have started on it.

        Returns:
            Gives the Prediction, or raises ImageError, DeadlineExceededError, or PredictorClosedError after
            `close(drain=False)`. Cancelling it works until the network starts.

        Raises:
            QueueFullError: `max_queue` images wait already.
            PredictorClosedError: after `close()`.
        """
        return self._submit(image, wait=False, deadline_ms=deadline_ms, max_delay=self._max_delay)

    async def apredict(self, image: ImageSource, *, deadline_ms: float | None = None) -> Prediction:
        """`submit` for asyncio: raises what it and its future raise; cancelling the task cancels the request."""
        import asyncio  # here, because it is slow to import; whoever awaits has it already

        return await asyncio.wrap_future(self.submit(image, deadline_ms=deadline_ms))

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
        size = self.spec.image_size
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (size, size, 3):
            raise ImageError(f"a batch must be uint8 [N, {size}, {size}, 3], got {batch.dtype} {list(batch.shape)}")
        networks = self._networks
        self._batcher.check_open()
        return networks[next(self._turn) % len(networks)].run(batch)

    @property
    def backends(self) -> list[Backend]:
        """What runs the model, one for each device; none once closed."""
        return [network.backend for network in self._networks]

    @property
    def path(self) -> Path:
        """Of the model file."""
        return self._path

    @cached_property
    def sha256(self) -> str:
        """Of the model file, in hexadecimal."""
        return sha256_of(self._path)

    def close(self, *, drain: bool = True) -> None:
        """Free the model; later calls raise PredictorClosedError.

        Args:
            drain: finish what was submitted; else what has not started fails with PredictorClosedError.
        """
        self._batcher.close(drain=drain)
        self._decoders.shutdown(wait=True)
        self._networks = []

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(
        self, image: ImageSource, *, wait: bool, deadline_ms: float | None = None, max_delay: float = 0.0
    ) -> Future[Prediction]:
        request = self._batcher.accept(wait=wait, deadline_ms=deadline_ms)
        self._decoders.submit(self._prepare_and_put, request, image, max_delay)
        return request.future

    def _prepare_and_put(self, request: Request[Prediction], image: ImageSource, max_delay: float) -> None:
        try:
            if (refusal := self._batcher.refusal(request)) is not None:
                raise refusal
            [cut] = self._prepare(_keep_bytes(image), None)
            if isinstance(cut, ImageError):
                raise cut
        except Exception as error:  # whatever it is, somebody waits for an answer
            self._batcher.fail(request, error)
        else:
            self._batcher.put(request, cut, max_delay=max_delay)

    def _prepare(self, source: ImageSource, boxes: Sequence[Box] | None) -> list[_Garment | ImageError]:
        """Decode an image and cut its garments out: one for each box, or one for the whole image.

        Raises:
            ImageError: the image is bad. A bad box gives its error in its place.
        """
        size = self.spec.image_size
        start = perf_counter()
        picture = read_image(source, side=size, boxes=boxes, max_pixels=self._max_pixels)
        decode = perf_counter() - start
        cuts: list[_Garment | ImageError] = []
        for box in [None] if boxes is None else boxes:
            start = perf_counter()
            try:
                cut = crop(picture, box, size)
            except ImageError as error:
                cuts.append(error)
            else:
                timing = {"decode": decode * 1e3, "preprocess": (perf_counter() - start) * 1e3}
                cuts.append(_Garment(source, picture.width, picture.height, cut, timing))
        return cuts


def _recognise(network: Network, spec: ModelSpec, garments: list[_Garment]) -> list[Prediction]:
    """Run garments through the network; called by the batching threads and by nothing else."""
    start = perf_counter()
    outputs = network.run(np.array([garment.crop.pixels for garment in garments]))
    compute = perf_counter() - start
    predictions = []
    for i, garment in enumerate(garments):
        began = perf_counter()
        timing = garment.timing | {"queue": (start - garment.ready) * 1e3, "compute": compute * 1e3}
        prediction = from_outputs(
            {name: values[i] for name, values in outputs.items()},
            garment.crop,
            spec,
            source=garment.source,
            width=garment.width,
            height=garment.height,
            timing=timing,
        )
        timing["post"] = (perf_counter() - began) * 1e3
        predictions.append(prediction)
    return predictions


def _result_or_failed(source: ImageSource, future: Future[Prediction]) -> Prediction:
    try:
        return future.result()
    except ImageError as error:
        return Prediction.failed(source, error)


def _keep_bytes(source: ImageSource) -> ImageSource:
    """A file can be read once only, and a Prediction's plot reads its source again."""
    if isinstance(source, str | os.PathLike | bytes | np.ndarray | Image.Image):
        return source
    try:
        return read_bytes(source)
    except ImageError as error:
        raise ImageError(f"the image {error}") from error.__cause__


def _default_device(path: Path) -> str:
    return "cuda:0" if path.suffix == ".plan" else "cpu"


def _open_backend(path: Path, backend: str | None, device: str, sessions: int | None, threads: int | None) -> Backend:
    if path.suffix not in (".onnx", ".plan"):
        raise ModelError(f"{path} is neither an .onnx nor a .plan file, the kinds this release runs")
    known = ("onnxruntime", "openvino", "tensorrt") if path.suffix == ".onnx" else ("tensorrt",)
    if backend not in (None, *known):
        raise UsageError(f"there is no backend {backend!r} for {path.suffix} files: it is {' or '.join(known)}")
    if path.suffix == ".plan" or backend == "tensorrt" or (backend is None and device.startswith("cuda")):
        return _open_engine(path, device, sessions)
    # here, so that a missing extra is named on use
    if backend == "openvino":
        from fashion_infer.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, device=device, sessions=sessions, threads=threads)
    from fashion_infer.backends.calibration import choose_layout
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, device=device, layout=choose_layout(path, device, sessions, threads))


def _open_engine(path: Path, device: str, sessions: int | None) -> Backend:
    """A TensorRT engine: a .plan as it is, an .onnx through the engine that is built for it once and kept."""
    from fashion_infer.tensorrt.cuda import use_gpu
    from fashion_infer.tensorrt.session import TensorRTBackend

    if path.suffix == ".onnx":
        index = gpu_index(device)
        use_gpu(index)  # before an engine is built for a GPU that is not there
        from fashion_infer.tensorrt.build import BuildOptions, cached_engine

        path = cached_engine(path, BuildOptions(device=index))
    return TensorRTBackend(path, device=device, sessions=sessions or 2)
