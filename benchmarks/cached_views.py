"""Cached stride-8 features of augmented views of photos: computed once, read in many training steps.

After the first runs of `pretrained.py` the layers up to the trunk's stride-8 stage are frozen, so their output for a
view can be kept (float16, 63 KB per view at 224 px). The views come in rounds. Each round holds every worn garment once
and a share of the other photos, so that training can start on the first rounds while the next are computed. Rounds that
exist already are not computed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.files import write_atomically
from fashion_infer.images import read_image
from fashion_infer.preprocess import crop
from fashion_infer.training.batches import Samples
from fashion_infer.training.model import FashionNet, Maps, TimmBackbone

BATCH = 32


@dataclass(frozen=True)
class Views:
    """Some views of a set's photos.

    Attributes:
        rows: int64 [V], rows of the photos in the data set.
        features: float16 [V, C, S / 8, S / 8], outputs of the trunk's stride-8 stage; a file mapped into memory.
        landmarks: float32 [V, 8, 2] as (x, y), in [0, 1] inside the view.
        visibility: int8 [V, 8], coded as in `losses.Batch`.
    """

    rows: NDArray[np.int64]
    features: NDArray[np.float16]
    landmarks: NDArray[np.float32]
    visibility: NDArray[np.int8]


def round_of_views(folder: Path, number: int, net: FashionNet, data: FashionData, rows: NDArray[np.int64]) -> Views:
    """Read a round, one augmented view of each of these rows; compute it first if it does not exist."""
    samples = Samples(data, net.arch.image_size, number, strong=True)

    def views() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int8]]]:
        for row in rows:
            sample = samples[int(row), number]
            if sample.error is not None:
                raise SystemExit(f"{data.images[row]}: {sample.error}")
            yield sample.image, sample.landmarks, sample.visibility

    return _kept(folder / f"round-{number}.npz", net, rows, views())


def plain_views(path: Path, net: FashionNet, data: FashionData) -> Views:
    """Read the views of all photos of a set, cut out by their boxes and not augmented, for evaluation."""
    size = net.arch.image_size

    def views() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int8]]]:
        for row, name in enumerate(data.images):
            box = data.boxes[row].astype(np.float64)
            cut = crop(read_image(data.image_root / name, side=size, boxes=[box]), box, size)
            yield cut.pixels, cut.from_image(data.landmarks[row]), data.visibility[row]

    return _kept(path, net, np.arange(len(data)), views())


def _kept(
    path: Path,
    net: FashionNet,
    rows: NDArray[np.int64],
    views: Iterator[tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.int8]]],
) -> Views:
    """Read the views from the file at `path` and the mapped file beside it; write both first if they do not exist."""
    mapped = path.with_suffix(".features.npy")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        labels: list[tuple[NDArray[np.floating], NDArray[np.int8]]] = []
        shape = (len(rows), net.backbone.channels[0], net.arch.image_size // 8, net.arch.image_size // 8)
        features = np.lib.format.open_memmap(mapped, "w+", np.float16, shape)
        while len(labels) < len(rows):
            images, landmarks, visibility = zip(*(next(views) for _ in rows[len(labels) :][:BATCH]), strict=True)
            features[len(labels) :][: len(images)] = to_stride_8(net, np.stack(images)).numpy()
            labels += zip(landmarks, visibility, strict=True)
        features.flush()
        points, visible = (np.stack(column) for column in zip(*labels, strict=True))
        columns = {"rows": rows, "landmarks": points.astype(np.float32), "visibility": visible}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **columns)

        write_atomically(path, write)
    with np.load(path) as file:
        return Views(file["rows"], np.load(mapped, "r"), file["landmarks"], file["visibility"])


@torch.inference_mode()
def to_stride_8(net: FashionNet, images: NDArray[np.uint8]) -> Tensor:
    """Compute the stride-8 features, float16 [N, C, S / 8, S / 8], of pictures, uint8 [N, S, S, 3] RGB."""
    trunk = _trunk(net)
    x = ((torch.from_numpy(images).float() - net.mean) / net.std).permute(0, 3, 1, 2)
    features: Tensor = trunk.blocks[:3](trunk.bn1(trunk.conv_stem(x)))
    return features.half().contiguous()


def from_stride_8(net: FashionNet, features: Tensor) -> Maps:
    """Compute the backbone's maps from stride-8 features, [N, C, S / 8, S / 8]."""
    stages = [features]
    for block in late_layers(net):
        stages.append(block(stages[-1]))
    return Maps(tuple(stages), stages[-1], stages[-1])


def late_layers(net: FashionNet) -> torch.nn.Sequential:
    """Return the trunk's layers behind stride 8."""
    layers: torch.nn.Sequential = _trunk(net).blocks[3:]
    return layers


def _trunk(net: FashionNet) -> torch.nn.Module:
    """Return the trunk, an EfficientNet of timm whose `blocks[2]` is the stage of stride 8."""
    assert isinstance(net.backbone, TimmBackbone) and net.backbone.stride_8 == "blocks_2"
    return net.backbone.net
