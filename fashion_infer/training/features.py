"""The features that a trained network computes for photos, cached by the content of the photo's file.

A photo's features are the inputs of the network's heads (`Architecture.heads`). They are cached in the user's cache
folder, in one SQLite file per network. A stopped run therefore continues where it was, and if a class is added later,
only its own photos have to be computed.
"""

import contextlib
import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Set
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import ImageError
from fashion_infer.evaluation.judging import Progress, decoded
from fashion_infer.files import cache_folder
from fashion_infer.images import Pixels, read_bytes
from fashion_infer.model_spec import PREPROCESSING_VERSION
from fashion_infer.preprocess import read_crop
from fashion_infer.training.checkpoint import hash_weights
from fashion_infer.training.model import FashionNet

THUMBNAIL = 32  # side, pixels
BATCH = 16  # photos per run of the network
LAYOUT = 1  # version of the cache's layout

Floats = NDArray[np.float32]
logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True, eq=False)
class Features:
    """The features of N photos.

    Attributes:
        rows: int64 [N], rows of the data set; rows whose image cannot be read are left out.
        values: float32 [N, F], the inputs of the heads.
        thumbnails: uint8 [N, 32, 32], small grey pictures, used to detect copies of a photo.
        keys: N hashes of the photo's bytes and its box; equal keys mean equal crops.
        skipped: Images that could not be used, each with the reason.
    """

    rows: NDArray[np.int64]
    values: Floats
    thumbnails: Pixels
    keys: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class _Loaded:
    """The hash of one row's crop, the pixels if its features are not cached, or the error that prevented loading."""

    row: int
    key: str = ""
    pixels: Pixels | None = None
    error: str = ""


def features_of(network: FashionNet, data: FashionData, progress: Progress = iter) -> Features:
    """Compute the features of the photos of a set, each cut out by its box, or read them from the cache.

    Args:
        network: The network, in evaluation mode, on the CPU.
        data: The photos.
        progress: Wraps the sequence of row numbers, to show a progress bar.
    """
    skipped: dict[str, str] = {}
    rows_and_keys: list[tuple[int, str]] = []
    by_key: dict[str, tuple[Floats, Pixels]] = {}
    with _open_cache(_network_key(network)) as cache:
        cached_keys = {key for (key,) in cache.execute("SELECT key FROM photos")}
        load = partial(_load, data, network.arch.image_size, cached_keys)
        for batch in decoded(load, len(data), BATCH, progress=progress):
            skipped |= {data.images[photo.row]: photo.error for photo in batch if photo.error}
            rows_and_keys += [(photo.row, photo.key) for photo in batch if not photo.error]
            pixels = {photo.key: photo.pixels for photo in batch if photo.pixels is not None}
            if pixels:
                values = _run(network, np.stack(list(pixels.values())))
                computed = {key: (row, _thumbnail(p)) for (key, p), row in zip(pixels.items(), values, strict=True)}
                by_key |= computed
                with cache:
                    blobs = [(key, row.tobytes(), small.tobytes()) for key, (row, small) in computed.items()]
                    cache.executemany("INSERT OR REPLACE INTO photos VALUES (?, ?, ?)", blobs)
        for _, key in rows_and_keys:
            if key not in by_key:
                record = cache.execute("SELECT features, thumbnail FROM photos WHERE key = ?", (key,)).fetchone()
                by_key[key] = np.frombuffer(record[0], np.float32), np.frombuffer(record[1], np.uint8)
    keys = tuple(key for _, key in rows_and_keys)
    return Features(
        np.array([row for row, _ in rows_and_keys], np.int64),
        np.array([by_key[key][0] for key in keys], np.float32).reshape(len(keys), sum(network.blocks)),
        np.array([by_key[key][1].reshape(-1) for key in keys], np.uint8).reshape(len(keys), THUMBNAIL, THUMBNAIL),
        keys,
        skipped,
    )


def features_of_pixels(network: FashionNet, pixels: Pixels) -> Floats:
    """Compute the features, float32 [N, F], of pictures in memory, uint8 [N, S, S, 3] RGB, without the cache."""
    parts = np.array_split(pixels, range(BATCH, len(pixels), BATCH))
    return np.concatenate([_run(network, part) for part in parts])


def logits_of(network: FashionNet, data: FashionData) -> Floats:
    """Compute a network's category logits, float32 [N, C], for the photos of a set, all of which must be readable."""
    load = partial(_load, data, network.arch.image_size, frozenset())
    parts = []
    for batch in decoded(load, len(data), BATCH):
        pixels = torch.from_numpy(np.stack([photo.pixels for photo in batch if photo.pixels is not None]))
        with torch.inference_mode():
            parts.append(network(pixels)["category"].numpy())
    return np.concatenate(parts)


def _load(data: FashionData, size: int, cached_keys: Set[str], row: int) -> _Loaded:
    box = data.box(row)
    try:
        encoded = read_bytes(data.image_root / data.images[row])
        cut = b"" if box is None else json.dumps(box.tolist()).encode()
        key = hashlib.sha256(hashlib.sha256(encoded).digest() + cut).hexdigest()
        return _Loaded(row, key, None if key in cached_keys else read_crop(encoded, size, box)[1].pixels)
    except ImageError as error:
        return _Loaded(row, error=str(error))


@torch.inference_mode()
def _run(network: FashionNet, pixels: Pixels) -> Floats:
    features: list[torch.Tensor] = []
    hook = network.category.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    try:
        network(torch.from_numpy(pixels))
    finally:
        hook.remove()
    values: Floats = features[0].float().numpy()
    return values


def _thumbnail(pixels: Pixels) -> Pixels:
    """Shrink a picture, uint8 [S, S, 3] RGB, to a grey one, uint8 [32, 32]."""
    small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _network_key(network: FashionNet) -> str:
    """Return a name for the cache file, a hash of everything that determines the features.

    These are the weights except the heads', the architecture, the version of the preprocessing and the cache's layout.
    """
    heads = ("category.", "attributes.")
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(heads)}
    arch = asdict(network.arch) | {"num_categories": 0, "num_attributes": 0}
    facts = json.dumps([LAYOUT, PREPROCESSING_VERSION, hash_weights(weights), arch], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _open_cache(name: str) -> Iterator[sqlite3.Connection]:
    """Open the cache file of a network; if that fails, log a warning and open a database in memory."""
    place = cache_folder() / "features" / f"{name}.sqlite"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(place)
    except (OSError, sqlite3.Error) as error:
        logger.warning("%s cannot be used (%s): the photos' features are not kept for the next run", place, error)
        connection = _connect(":memory:")
    with contextlib.closing(connection):
        yield connection


def _connect(place: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(place, timeout=60)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS photos (key TEXT PRIMARY KEY, features BLOB, thumbnail BLOB)")
    return connection
