"""What a finished network sees in photos: computed once for each photo, and kept by what the file holds.

A photo's features are what its heads read (`Architecture.heads`). They are kept in the user's cache folder, in one
SQLite file for each network, so that a run that was stopped goes on, and a class that is added later costs its own
photos only.
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
BATCH = 16  # photos through the network at once
LAYOUT = 1  # of what is kept

Floats = NDArray[np.float32]
logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True, eq=False)
class Features:
    """What a network sees in N photos.

    Attributes:
        rows: int64 [N], of the set that was given; rows that cannot be read are not among them.
        values: float32 [N, F], what the heads read.
        thumbnails: uint8 [N, 32, 32], small grey pictures, by which copies of a photo are found.
        keys: N hashes of a photo's bytes and its box: equal ones show the same.
        skipped: the images that could not be used -> why.
    """

    rows: NDArray[np.int64]
    values: Floats
    thumbnails: Pixels
    keys: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class _Seen:
    """One row's hash, its crop where it had to be decoded, or why there is none."""

    row: int
    key: str = ""
    pixels: Pixels | None = None
    error: str = ""


def features_of(network: FashionNet, data: FashionData, progress: Progress = iter) -> Features:
    """Run a network over the photos of a set, each cut out by its box; what was computed before is looked up.

    Args:
        network: in evaluation mode, on the CPU.
        data: the photos.
        progress: wraps the sequence of row numbers, to show a bar.
    """
    skipped: dict[str, str] = {}
    seen: list[tuple[int, str]] = []
    kept: dict[str, tuple[Floats, Pixels]] = {}
    with _open_cache(_network_key(network)) as cache:
        known = {key for (key,) in cache.execute("SELECT key FROM photos")}
        load = partial(_load, data, network.arch.image_size, known)
        for batch in decoded(load, len(data), BATCH, progress=progress):
            skipped |= {data.images[one.row]: one.error for one in batch if one.error}
            seen += [(one.row, one.key) for one in batch if not one.error]
            pixels = {one.key: one.pixels for one in batch if one.pixels is not None}
            if pixels:
                values = _run(network, np.stack(list(pixels.values())))
                made = {key: (row, _thumbnail(p)) for (key, p), row in zip(pixels.items(), values, strict=True)}
                kept |= made
                with cache:
                    blobs = [(key, row.tobytes(), small.tobytes()) for key, (row, small) in made.items()]
                    cache.executemany("INSERT OR REPLACE INTO photos VALUES (?, ?, ?)", blobs)
        for _, key in seen:
            if key not in kept:
                found = cache.execute("SELECT features, thumbnail FROM photos WHERE key = ?", (key,)).fetchone()
                kept[key] = np.frombuffer(found[0], np.float32), np.frombuffer(found[1], np.uint8)
    count = len(seen)
    return Features(
        np.array([row for row, _ in seen], np.int64),
        np.array([kept[key][0] for _, key in seen], np.float32).reshape(count, sum(network.blocks)),
        np.array([kept[key][1].reshape(-1) for _, key in seen], np.uint8).reshape(count, THUMBNAIL, THUMBNAIL),
        tuple(key for _, key in seen),
        skipped,
    )


def features_of_pixels(network: FashionNet, pixels: Pixels) -> Floats:
    """uint8 [N, S, S, 3] pictures that lie in no file -> float32 [N, F]; nothing is kept."""
    parts = np.array_split(pixels, range(BATCH, len(pixels), BATCH))
    return np.concatenate([_run(network, part) for part in parts])


def logits_of(network: FashionNet, data: FashionData) -> Floats:
    """What a network's category head says of the photos of a set, all of which can be read: float32 [N, C]."""
    load = partial(_load, data, network.arch.image_size, frozenset())
    parts = []
    for batch in decoded(load, len(data), BATCH):
        pixels = torch.from_numpy(np.stack([one.pixels for one in batch if one.pixels is not None]))
        with torch.inference_mode():
            parts.append(network(pixels)["category"].numpy())
    return np.concatenate(parts)


def _load(data: FashionData, size: int, known: Set[str], row: int) -> _Seen:
    box = data.box(row)
    try:
        encoded = read_bytes(data.image_root / data.images[row])
        cut = b"" if box is None else json.dumps(box.tolist()).encode()
        key = hashlib.sha256(hashlib.sha256(encoded).digest() + cut).hexdigest()
        return _Seen(row, key, None if key in known else read_crop(encoded, size, box)[1].pixels)
    except ImageError as error:
        return _Seen(row, error=str(error))


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
    """[S, S, 3] -> [32, 32] grey."""
    small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _network_key(network: FashionNet) -> str:
    """Names everything that the features hang on: the weights but for the heads', the architecture, the pixels."""
    heads = ("category.", "attributes.")
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(heads)}
    arch = asdict(network.arch) | {"num_categories": 0, "num_attributes": 0}
    facts = json.dumps([LAYOUT, PREPROCESSING_VERSION, hash_weights(weights), arch], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _open_cache(name: str) -> Iterator[sqlite3.Connection]:
    """The file of a network; where it cannot be used, one in memory, and a warning."""
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
