"""Images in, Predictions out: the one path that every caller takes."""

import io
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Backend, Outputs
from fashion_infer.errors import ImageError, ModelError, ModelNotFoundError, PredictorClosedError, UsageError
from fashion_infer.files import sha256_of
from fashion_infer.images import MAX_PIXELS, ImageSource, read_image
from fashion_infer.model_spec import ModelSpec
from fashion_infer.prediction import Prediction, from_outputs
from fashion_infer.preprocess import Box, Crop, crop

logger = logging.getLogger("fashion_infer")


@dataclass
class _Garment:
    """One box of one image on its way to the network: either its crop or what was wrong with it."""

    source: ImageSource
    width: int = 0
    height: int = 0
    crop: Crop | None = None
    error: ImageError | None = None
    timing: dict[str, float] = field(default_factory=dict)
    ready: float = 0.0


class Predictor:
    """Clothing category, attributes, landmarks and an embedding of each garment given to it.

    It recognises garments; it does not find them. Give boxes from a detector, or images that show one garment.
    A Predictor may be used from many threads at once, and as a context manager.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str | None = None,
        backend: str | None = None,
        max_batch: int = 32,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        require_hash: str | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: path of a file that `fashion-infer export` wrote.
            device: "cpu", the default for .onnx files, or "cuda:0" and so on, the default for .plan files. Nothing
                falls back to another device.
            backend: "onnxruntime" or "tensorrt". By default an .onnx file runs in ONNX Runtime on a CPU, and on a GPU
                through a TensorRT engine that is built on first use and kept in the user's cache folder.
            max_batch: images that go through the network at once, at most.
            threads: of one inference; the runtime chooses when None.
            max_pixels: images with more pixels are refused from their header.
            require_hash: sha256 that the file must have, in hexadecimal.

        Raises:
            ModelNotFoundError: no such file.
            ModelError: not a model of ours, damaged, of another version or another hash.
            EngineMismatchError: a .plan for another GPU or TensorRT, or one that was changed.
            DeviceError: the device cannot be used.
            MissingExtraError: the runtime is not installed.
            UsageError: an unknown backend, or a batch below 1.
        """
        if max_batch < 1:
            raise UsageError(f"max_batch must be at least 1, got {max_batch}")
        path = _find_model(model)
        if require_hash is not None and (found := sha256_of(path)) != require_hash.lower():
            raise ModelError(f"{path} has sha256 {found}, expected {require_hash}: it is another file, or was changed")
        self._backend: Backend | None = _open_backend(path, backend, device or _default_device(path), threads)
        self._path = path
        self._max_batch, self._max_pixels = max_batch, max_pixels
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="fashion-infer-decode")
        self.spec: ModelSpec = self._backend.spec
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
        self._open()
        if boxes is not None and len(boxes) == 0:
            return []
        garments = self._prepare(images, boxes)
        predictions = self._recognise(garments)
        if boxes is not None:
            return predictions
        if predictions[0].error is not None:
            raise predictions[0].error
        return predictions[0]

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction]:
        """Recognise images lazily and in order; a bad image gives a Prediction with `error` set.

        Images are decoded by a pool of threads while the network runs. At most twice `max_batch` images are read
        ahead of the last result, so a live source wants a small `max_batch`.
        """
        waiting: deque[Future[list[_Garment]]] = deque()

        def next_batch() -> list[_Garment]:
            return [waiting.popleft().result()[0] for _ in range(min(self._max_batch, len(waiting)))]

        for image in images:
            self._open()
            waiting.append(self._decoders.submit(self._prepare_or_fail, image))
            if len(waiting) == 2 * self._max_batch:
                yield from self._recognise(next_batch())
        while waiting:
            yield from self._recognise(next_batch())

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
        backend = self._open()
        starts = range(0, max(len(batch), 1), self._max_batch)
        parts = [backend.run(batch[start : start + self._max_batch]) for start in starts]
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    @cached_property
    def sha256(self) -> str:
        """Of the model file, in hexadecimal."""
        return sha256_of(self._path)

    def close(self) -> None:
        """Free the model; what is running finishes, later calls raise PredictorClosedError."""
        self._backend = None
        self._decoders.shutdown(wait=True)

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Backend:
        if (backend := self._backend) is None:
            raise PredictorClosedError("this Predictor was closed")
        return backend

    def _prepare(self, source: ImageSource, boxes: Sequence[Box] | None) -> list[_Garment]:
        """Decode an image and cut its garments out: one for each box, or one for the whole image."""
        size = self.spec.image_size
        source = _keep_bytes(source)
        start = perf_counter()
        picture = read_image(source, side=size, boxes=boxes, max_pixels=self._max_pixels)
        decode = perf_counter() - start
        garments = []
        for box in [None] if boxes is None else boxes:
            garment = _Garment(source, picture.width, picture.height)
            start = perf_counter()
            try:
                garment.crop = crop(picture, box, size)
            except ImageError as error:
                garment.error = error
            garment.ready = perf_counter()
            garment.timing = {"decode": decode * 1e3, "preprocess": (garment.ready - start) * 1e3}
            garments.append(garment)
        return garments

    def _prepare_or_fail(self, source: ImageSource) -> list[_Garment]:
        try:
            return self._prepare(source, None)
        except ImageError as error:
            return [_Garment(source, error=error)]

    def _recognise(self, garments: list[_Garment]) -> list[Prediction]:
        """Run the good garments through the network; the bad ones keep their places and their errors."""
        crops = [garment.crop for garment in garments if garment.crop is not None]
        start = perf_counter()
        outputs = self.run(np.stack([c.pixels for c in crops])) if crops else {}
        end = perf_counter()
        rows = ({name: values[i] for name, values in outputs.items()} for i in range(len(crops)))
        predictions = []
        for garment in garments:
            garment.timing |= {"queue": (start - garment.ready) * 1e3, "compute": (end - start) * 1e3}
            predictions.append(_to_prediction(garment, rows, self.spec))
        return predictions


def _to_prediction(garment: _Garment, rows: Iterator[Outputs], spec: ModelSpec) -> Prediction:
    if garment.crop is None:
        return Prediction.failed(garment.source, garment.error or ImageError("no crop"))
    start = perf_counter()
    prediction = from_outputs(
        next(rows),
        garment.crop,
        spec,
        source=garment.source,
        width=garment.width,
        height=garment.height,
        timing=garment.timing,
    )
    prediction.timing["post"] = (perf_counter() - start) * 1e3
    return prediction


def _keep_bytes(source: ImageSource) -> ImageSource:
    """A file can be read once only, and a Prediction's plot reads its source again."""
    return source.read() if isinstance(source, io.IOBase) else source


def _find_model(model: str | os.PathLike[str]) -> Path:
    path = Path(model)
    if path.is_file():
        return path
    raise ModelNotFoundError(f"there is no model file {model}: give the path of a file written by fashion-infer export")


def _default_device(path: Path) -> str:
    return "cuda:0" if path.suffix == ".plan" else "cpu"


def _open_backend(path: Path, backend: str | None, device: str, threads: int | None) -> Backend:
    if path.suffix not in (".onnx", ".plan"):
        raise ModelError(f"{path} is neither an .onnx nor a .plan file, the kinds this release runs")
    if backend not in (None, "onnxruntime", "tensorrt") or (path.suffix, backend) == (".plan", "onnxruntime"):
        raise UsageError(
            f"there is no backend {backend!r} for {path}: it is onnxruntime or tensorrt, tensorrt for .plan"
        )
    if path.suffix == ".plan" or backend == "tensorrt" or (backend is None and device != "cpu"):
        return _open_engine(path, device)
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend  # here, so that a missing extra is named on use

    return OnnxRuntimeBackend(path, device=device, threads=threads)


def _open_engine(path: Path, device: str) -> Backend:
    """A TensorRT engine: a .plan as it is, an .onnx through the engine that is built for it once and kept."""
    from fashion_infer.backends.cuda import parse_device, use_gpu
    from fashion_infer.backends.tensorrt import TensorRTBackend

    if path.suffix == ".onnx":
        index = parse_device(device)
        use_gpu(index)  # before an engine is built for a GPU that is not there
        from fashion_infer.export.engine import BuildOptions, cached_engine

        path = cached_engine(path, BuildOptions(device=index))
    return TensorRTBackend(path, device=device)
