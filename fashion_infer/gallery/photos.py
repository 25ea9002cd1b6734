"""Photos on their way into a gallery: they are read ahead, hashed and put through the network."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np
from PIL import Image

from fashion_infer.arguments import several
from fashion_infer.decoding import untrusted
from fashion_infer.errors import FashionInferError, ImageError, UsageError
from fashion_infer.gallery.rows import Box, text_of_id, text_of_path
from fashion_infer.gallery.values import Value, clean
from fashion_infer.images import ImageSource, path_of, read_bytes
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.preprocess import parse_boxes

READERS = 8  # threads that read files
AHEAD = 32  # photos that are read ahead of the network
WHOLE = (0.0, 0.0, 1e9, 1e9)  # box of the whole photo, since boxes are clipped to the photo


@dataclass
class Photo:
    """One photo to add.

    Attributes:
        id: id of the photo, and of its row; with boxes, "#n" is appended for the row of the n-th box.
        source: the image, which the caller cannot change; then its bytes; None when it is no longer needed.
        path: path of the photo as text; None if the image is not a path.
        boxes: boxes of the garments, from `parse_boxes`; None for the whole photo.
        columns: values of the user's columns; None to keep the stored ones.
        content_hash: sha256 of the image in hexadecimal; empty until it has been read.
        error: reason why the photo cannot be used, or None.
        ids: ids of the rows if they do not follow from `id` and `boxes`, else None.
    """

    id: str
    source: ImageSource | None
    path: str | None
    boxes: Sequence[Box | ImageError] | None
    columns: dict[str, Value] | None
    content_hash: str = ""
    error: FashionInferError | None = None
    ids: list[str] | None = None

    def row_ids(self) -> list[str]:
        """Return the ids of the photo's rows."""
        if self.ids is not None:
            return self.ids
        return [self.id] if self.boxes is None else [f"{self.id}#{n}" for n in range(1, len(self.boxes) + 1)]


def photos_of(
    images: Iterable[ImageSource],
    ids: Iterable[str] | None,
    payloads: Iterable[dict[str, Any] | None] | None,
    boxes: Iterable[Sequence[Sequence[float]] | None] | None,
) -> Iterator[Photo]:
    """Yield the photos that the arguments of `Gallery.add` describe; a bad argument becomes its photo's error.

    Raises:
        TypeError: an argument is a single thing instead of several.
        UsageError: one of the iterables ends before another.
    """
    arguments = (
        several("images", images, np.ndarray),
        None if ids is None else several("ids", ids),
        None if payloads is None else several("payloads", payloads, Mapping),
        None if boxes is None else several("boxes", boxes),
    )
    iterators = [None if values is None else iter(values) for values in arguments]
    while True:
        values = [(None, None) if it is None else _next(it) for it in iterators]
        ended = [end for it, (_, end) in zip(iterators, values, strict=True) if it is not None]
        if all(ended):
            return
        if any(ended):
            raise UsageError("images, ids, payloads and boxes must be equally many: one of them ended early")
        yield _photo(*(value for value, _ in values))


def _next(iterator: Iterator[Any]) -> tuple[Any, bool]:
    try:
        return next(iterator), False
    except StopIteration:
        return None, True


def _photo(image: Any, id: Any, payload: Any, boxes: Any) -> Photo:
    photo = Photo("", None, None, None if boxes is None else parse_boxes(boxes), None)
    try:
        path = path_of(image)
        photo.path = None if path is None else text_of_path(path)
        photo.id = (photo.path or "") if id is None else text_of_id(id)
        if not photo.id:
            raise UsageError("an image that is not a path needs an id")
        photo.columns = None if payload is None else clean(payload)
        photo.source = _own(photo.id, image)
    except FashionInferError as error:
        photo.error = error
    return photo


def _own(id: str, image: Any) -> ImageSource:
    """A source that the caller cannot change: files are read, arrays and PIL images copied, before the next is taken.

    Raises:
        ImageError: the image cannot be read; the message names its id.
    """
    if isinstance(image, str | os.PathLike | bytes):
        return image
    if isinstance(image, np.ndarray):
        return np.array(image)
    try:
        if isinstance(image, Image.Image):
            with untrusted():
                return image.copy()
        return read_bytes(image)
    except ImageError as error:
        raise ImageError(f"{id} {error}") from error


def read_ahead(photos: Iterable[Photo]) -> Iterator[Photo]:
    """Read and hash photos in a few threads and yield them in order, reading up to `AHEAD` photos ahead."""
    ahead: deque[Future[Photo]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="fashion-infer-read") as pool:
        for photo in photos:
            ahead.append(pool.submit(_read, photo))
            if len(ahead) == AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _read(photo: Photo) -> Photo:
    try:
        if photo.error is None:
            photo.source, photo.content_hash = _content(photo.source)
    except ImageError as error:
        photo.error = ImageError(f"{photo.path or photo.id} {error}")
    return photo


def _content(source: Any) -> tuple[ImageSource, str]:
    """Return the image in a form that the network accepts, and its sha256 in hexadecimal."""
    if isinstance(source, np.ndarray):
        header = f"{source.dtype} {source.shape}".encode()
        return source, hashlib.sha256(header + np.ascontiguousarray(source).tobytes()).hexdigest()
    if isinstance(source, Image.Image):
        return source, hashlib.sha256(f"{source.mode} {source.size}".encode() + source.tobytes()).hexdigest()
    data = read_bytes(source)
    return data, hashlib.sha256(data).hexdigest()


def recognised(predictor: Predictor, photos: Iterator[Photo]) -> Iterator[tuple[Photo, list[Prediction]]]:
    """Yield photos with a Prediction for each of their rows, in order; decoding, network and caller run in parallel."""
    waiting: deque[Photo] = deque()

    def remembered() -> Iterator[Photo]:
        for photo in photos:
            waiting.append(photo)
            yield photo

    first, second = tee(remembered())
    sources = (photo.source for photo in first if photo.source is not None)
    boxes: Iterator[Any] = ([WHOLE] if photo.boxes is None else photo.boxes for photo in second)
    for predictions in predictor.stream(sources, boxes):
        yield waiting.popleft(), predictions
