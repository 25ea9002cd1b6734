"""Measure what landmark pooling gains on real photos, and how much rooms and senders matter, on a frozen trunk.

    python benchmarks/frozen_trunk.py PHOTOS CHECKPOINT

The trunk comes from a checkpoint that was not trained on real photos (the first run of pretrained.py). Its features are
cached for every photo and its mirror image, so that a run takes a minute. Heads are trained on them from scratch: with
pooling at predicted landmarks, at labelled landmarks, at a grid, and without pooling, with three seeds each, evaluated
on val and test; and in five folds of train and val in which no sender is on both sides. A frozen trunk is weaker than a
trained one, so the numbers can only be compared with each other.
"""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import GroupKFold
from torch import Tensor

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.evaluation.measures import attribute_recall, category_accuracy, landmark_error_box
from fashion_infer.files import write_atomically
from fashion_infer.images import read_image
from fashion_infer.preprocess import crop
from fashion_infer.training.batches import MIRRORED_SLOTS, mirror
from fashion_infer.training.checkpoint import load_checkpoint
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.losses import Batch, fashionnet_losses
from fashion_infer.training.model import FashionNet, Maps
from fashion_infer.training.trainer import learning_rate_at

SIZE, EPOCHS, BATCH, RATE, SEEDS, FOLDS = 160, 8, 64, 2e-3, 3, 5
VARIANTS = {  # name: (pooling, at labelled landmarks)
    "at predicted landmarks": ("landmarks", False),
    "at labelled landmarks": ("landmarks", True),
    "at a fixed grid": ("grid", False),
    "no landmark pooling": ("none", False),
}
RESULTS = Path(__file__).parent / "results"
console = Console(stderr=True)


@dataclasses.dataclass(frozen=True)
class Cached:
    """The trunk's outputs and the labels for the N photos and then for their N mirror images."""

    features: Tensor  # [2N, C, S / 8, S / 8] float16
    deep: Tensor  # [2N, D, S / 32, S / 32] float16
    landmarks: NDArray[np.float32]  # [2N, 8, 2]
    visibility: NDArray[np.int8]  # [2N, 8]


def main(
    photos: Annotated[Path, typer.Argument(help="The labelled photos, with photos.csv.")],
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint whose trunk is used.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Write frozen_trunk.json and frozen_trunk.md."""
    data = read_category(photos)
    trunk, _ = load_checkpoint(checkpoint)
    cached = cache(trunk, data)
    train = np.flatnonzero(data.splits == "train")
    train_and_val = np.flatnonzero(np.isin(data.splits, ("train", "val")))
    runs: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name, (pooling, labelled) in VARIANTS.items():
        for seed in range(SEEDS):
            heads = fit(trunk, cached, data, train, pooling, labelled, seed)
            metrics = {
                split: measure(heads, cached, data, np.flatnonzero(data.splits == split), labelled)
                for split in ("val", "test")
            }
            runs.setdefault(name, []).append(metrics)
            console.print(name, seed, metrics["val"])
    senders = senders_of(photos / "photos.csv", data)[train_and_val]
    folds = []
    for number, (fitted, held_out) in enumerate(GroupKFold(FOLDS).split(train_and_val, groups=senders)):
        heads = fit(trunk, cached, data, train_and_val[fitted], "landmarks", False, number)
        folds.append(measure(heads, cached, data, train_and_val[held_out], False))
        console.print("fold", number, folds[-1])
    settings = {"size": SIZE, "epochs": EPOCHS, "batch": BATCH, "learning_rate": RATE}
    facts = {"provenance": provenance(), "environment": environment(), "settings": settings}
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "ablation": runs, "by_sender": folds}, indent=1) + "\n"
    write_atomically(output / "frozen_trunk.json", lambda path: path.write_text(text))
    write_atomically(output / "frozen_trunk.md", lambda path: path.write_text(table(runs, folds)))


@torch.inference_mode()
def cache(trunk: FashionNet, data: FashionData) -> Cached:
    """Run the trunk over every photo and its mirror image, each cut out by its box."""
    features, deep = [], []
    landmarks = np.zeros((2, len(data), 8, 2), np.float32)
    for start in track(range(0, len(data), BATCH), "the trunk", console=console):
        rows = range(start, min(start + BATCH, len(data)))
        pixels = []
        for row in rows:
            box = data.boxes[row].astype(np.float64)
            cut = crop(read_image(data.image_root / data.images[row], side=SIZE, boxes=[box]), box, SIZE)
            landmarks[0, row] = cut.from_image(data.landmarks[row])
            flipped, landmarks[1, row], _ = mirror(cut.pixels, landmarks[0, row], data.visibility[row])
            pixels += [cut.pixels, flipped]
        x = (torch.from_numpy(np.stack(pixels)).float() - trunk.mean) / trunk.std
        maps = trunk.backbone(x.permute(0, 3, 1, 2))
        features.append(maps.stages[0].half())
        deep.append(maps.whole.half())
    return Cached(
        _plain_then_mirrored(features),
        _plain_then_mirrored(deep),
        landmarks.reshape(-1, 8, 2),
        np.concatenate([data.visibility, data.visibility[:, MIRRORED_SLOTS]]),
    )


def _plain_then_mirrored(parts: list[Tensor]) -> Tensor:
    together = torch.cat(parts)
    return torch.cat([together[0::2], together[1::2]])


def fit(
    trunk: FashionNet, cached: Cached, data: FashionData, rows: NDArray[Any], pooling: str, labelled: bool, seed: int
) -> FashionNet:
    """Train new heads on some rows and their mirror images."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    arch = dataclasses.replace(
        trunk.arch,
        image_size=SIZE,
        pooling=pooling,
        num_categories=len(data.category_names),
        num_attributes=len(data.attribute_names),
    )
    net = FashionNet(arch).train()
    net.backbone.requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], weight_decay=1e-2)
    share = torch.full((len(data.attribute_names),), 0.5)
    config = TrainConfig(learning_rate=RATE)
    steps = EPOCHS * len(rows) // BATCH
    for step in range(steps):
        picked = rng.choice(rows, BATCH, replace=False) + len(data) * rng.integers(0, 2, BATCH)
        losses = fashionnet_losses(
            forward(net, cached, picked, labelled), batch(cached, data, picked), share, None, "l1"
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps, config)
        optimizer.zero_grad()
        torch.stack([loss for name, loss in losses.items() if name != "triplet"]).sum().backward()
        optimizer.step()
    return net.eval()


def forward(net: FashionNet, cached: Cached, rows: NDArray[Any], labelled: bool) -> dict[str, Tensor]:
    """Run the heads on the cached features of some rows."""
    points = torch.from_numpy(cached.landmarks[rows])
    gate = torch.from_numpy((cached.visibility[rows] == 0).astype(np.float32))
    deep = cached.deep[rows].float()
    maps = Maps((cached.features[rows].float(), deep), deep, deep)
    return net.heads(maps, (points, gate) if labelled else None)


def batch(cached: Cached, data: FashionData, rows: NDArray[Any]) -> Batch:
    """Return the labels of some rows as a Batch without images."""
    photos = rows % len(data)
    return Batch(
        images=torch.empty(0),
        landmarks=torch.from_numpy(cached.landmarks[rows]),
        visibility=torch.from_numpy(cached.visibility[rows].astype(np.int64)),
        categories=torch.from_numpy(data.categories[photos].astype(np.int64)),
        attributes=torch.from_numpy(data.attributes[photos]),
        items=torch.full((len(rows),), -1),
        rows=torch.from_numpy(photos),
    )


@torch.inference_mode()
def measure(net: FashionNet, cached: Cached, data: FashionData, rows: NDArray[Any], labelled: bool) -> dict[str, float]:
    """Compute the metrics of some photos, each cut out by its box; landmark errors are in shares of the box."""
    parts = [forward(net, cached, part, labelled) for part in np.array_split(rows, max(1, len(rows) // BATCH))]
    outputs = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    categories = category_accuracy(outputs["category"], data.categories[rows], (1, 3))
    recall = attribute_recall(outputs["attributes"], data.attributes[rows], data.attribute_groups, (3,))
    points = outputs["landmarks"], cached.landmarks[rows], cached.visibility[rows]
    error = landmark_error_box(*points, np.ones((len(points[0]), 2)))  # the landmarks are in shares of the box already
    return {
        "category_top1": categories[1],
        "category_top3": categories[3],
        "attribute_recall3_all": recall["all"][3],
        "landmark_error_of_box": error.mean,
    }


def senders_of(file: Path, data: FashionData) -> NDArray[np.int64]:
    """Return the sender of each photo, int64 [N]."""
    with file.open(encoding="utf-8") as lines:
        senders = {row["path"].removeprefix("Img/"): int(row["sender_id"]) for row in csv.DictReader(lines)}
    return np.array([senders[name] for name in data.images])


def table(runs: dict[str, list[dict[str, dict[str, float]]]], folds: list[dict[str, float]]) -> str:
    """Return the mean and standard deviation of each metric, as Markdown."""
    names = list(folds[0])
    lines = [
        "| heads on a frozen trunk | " + " | ".join(f"{split} {name}" for split in ("val", "test") for name in names)
    ]
    lines += ["|---" * (1 + 2 * len(names))]
    for variant, seeds in runs.items():
        cells = [[run[split][name] for run in seeds] for split in ("val", "test") for name in names]
        lines.append(f"| pooling {variant} | ".replace("pooling no", "no") + " | ".join(map(_spread, cells)))
    text = (
        " |\n".join(lines) + " |\n\n| five folds by sender | " + " | ".join(names) + " |\n" + "|---" * (1 + len(names))
    )
    return text + "|\n| at predicted landmarks | " + " | ".join(_spread([f[n] for f in folds]) for n in names) + " |\n"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


if __name__ == "__main__":
    typer.run(main)
