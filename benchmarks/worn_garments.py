"""The last runs of `pretrained.py`: lying and worn garments, shoes and hats together, with the early layers frozen.

In every batch, 14 of 32 views show worn garments. The early layers, up to stride 8, and the filters of the depthwise
convolutions are not trained. The outputs of the early layers are cached (`cached_views.py`).

Each run sees other batches and starts from the same network; the result is the mean of their weights (Wortsman et al.,
"Model soups", ICML 2022). On val the mean has a better category top-1 and smaller landmark errors than each of them.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from cached_views import Views, from_stride_8, late_layers, plain_views, round_of_views
from numpy.typing import NDArray
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from training_sets import joined

from fashion_infer.data.deepfashion import FashionData
from fashion_infer.evaluation.measures import attribute_recall, category_accuracy, landmark_error_box
from fashion_infer.export.from_onnx import network_from_onnx
from fashion_infer.files import write_atomically
from fashion_infer.images import read_image
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import crop
from fashion_infer.training.batch_norm import fit_batch_norm
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint, take_over
from fashion_infer.training.losses import Batch, fashionnet_losses
from fashion_infer.training.model import Architecture, FashionNet
from fashion_infer.training.run_folder import CHECKPOINT, METRICS, STATE

FIRST_RELEASE = Architecture("tf_efficientnet_lite0", 224, 36, 26, width=0.75)  # its file does not store it
ROUNDS, LYING, OTHERS = 8, 1200, 200  # rounds; lying and other photos in each, beside all worn garments
SHARES = {"worn": 14, "lying": 15, "others": 3}  # views per batch
RATE, DECAY, WARMUP, EMA, CLIP = 5e-4, 1e-2, 40, 0.995, 5.0
STEPS, STEPS_A_ROUND = (1600, 800, 600, 600), 20  # steps of each run; round n joins at step n * STEPS_A_ROUND
SMOOTHING, CATEGORY_WEIGHT = 0.1, 2.0  # of the category loss; smoothed labels make its scores less overconfident
SAVE_EVERY, JUDGE_EVERY = 20, 200
PICTURES = 128  # pictures that batch normalisation is fitted to
console = Console(stderr=True, width=200)


def rows_of_round(rows: dict[str, NDArray[np.int64]], number: int) -> NDArray[np.int64]:
    """Return the rows of a round: every worn garment, and the next lying and other photos."""
    counts = {"worn": len(rows["worn"]), "lying": LYING, "others": OTHERS}
    return np.concatenate(
        [np.take(rows[n], range(number * count, (number + 1) * count), mode="wrap") for n, count in counts.items()]
    )


def start_network(start: Path, data: FashionData) -> tuple[FashionNet, ModelSpec]:
    """Load the network of a file and give it the categories and attributes of a set."""
    source, source_spec = network_from_onnx(start, FIRST_RELEASE) if start.suffix == ".onnx" else load_checkpoint(start)
    spec = dataclasses.replace(
        source_spec,
        categories=data.category_names,
        attributes=data.attribute_names,
        attribute_groups=data.attribute_groups,
        temperature=1.0,
        garment_weights=None,
    )
    torch.manual_seed(0)
    arch = dataclasses.replace(source.arch, num_categories=len(spec.categories), num_attributes=len(spec.attributes))
    net = FashionNet(arch)
    take_over(net, spec, source, source_spec)
    return net.to(memory_format=torch.channels_last).eval(), spec  # type: ignore[call-overload]


def fit_norms(net: FashionNet, data: FashionData, rows: dict[str, NDArray[np.int64]]) -> None:
    """Fit batch normalisation to some photos, drawn with the same shares as a batch."""
    size, rng = net.arch.image_size, np.random.default_rng(0)
    total = sum(SHARES.values())
    drawn = np.concatenate(
        [rng.choice(rows[n], PICTURES * share // total, replace=False) for n, share in SHARES.items()]
    )
    pixels = []
    for row in rng.permutation(drawn):
        box = data.boxes[row].astype(np.float64)
        pixels.append(crop(read_image(data.image_root / data.images[row], side=size, boxes=[box]), box, size).pixels)
    fit_batch_norm(net, torch.from_numpy(np.stack(pixels)).split(32))


def run_on_worn_garments(sets: dict[str, FashionData], start: Path, folder: Path) -> Path:
    """Do the runs and average the weights of their networks; a stopped run continues.

    Args:
        sets: The sets from `training_sets.sources`.
        start: A checkpoint or an fp32 .onnx file to start from.
        folder: The folder of the runs and of the cached views.

    Returns:
        The path of the checkpoint.
    """
    networks = []
    for run in range(len(STEPS)):
        network, spec = load_checkpoint(train(sets, start, folder, run))
        networks.append(network)
    mean = mean_of(networks)
    validation, val_rows = joined(sets, "val")
    report(folder, {"run": "mean"}, mean, validation, plain_views(folder / "val.npz", mean, validation), val_rows)
    save_checkpoint(folder / CHECKPOINT, mean, spec)
    return folder / CHECKPOINT


def mean_of(networks: Sequence[FashionNet]) -> FashionNet:
    """Return a network with the mean of the weights of networks of one architecture, in evaluation mode."""
    mean = FashionNet(networks[0].arch)
    states = [network.state_dict() for network in networks]
    mean.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
            for name, tensor in states[0].items()
        }
    )
    return mean.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def train(sets: dict[str, FashionData], start: Path, folder: Path, run: int) -> Path:
    """Train the layers behind stride 8 and the heads, with the batches of one run; a stopped run continues.

    Returns:
        The path of the checkpoint, which holds the moving average of the weights.
    """
    data, rows = joined(sets, "train")
    net, spec = start_network(start, data)
    checkpoint, state, steps = folder / f"run-{run}" / CHECKPOINT, folder / f"run-{run}" / STATE, STEPS[run]
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if not state.exists():
        fit_norms(net, data, rows)
    average = FashionNet(net.arch)
    average.load_state_dict(net.state_dict())
    average.eval()
    net.requires_grad_(requires_grad=False)
    trained = [late_layers(net), *(module for name, module in net.named_children() if name != "backbone")]
    for module in trained:
        module.train().requires_grad_()
    for name, parameter in net.named_parameters():
        if "conv_dw" in name:  # depthwise filters are not trained: they are few, and their gradients are slow
            parameter.requires_grad_(requires_grad=False)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=DECAY)
    step = load(state, net, average, optimizer) if state.exists() else 0
    validation, val_rows = joined(sets, "val")
    val = plain_views(folder / "val.npz", average, validation)  # views need its early layers, which no step changes
    began, first = time.monotonic(), step
    while step < steps:
        rounds = [
            round_of_views(folder, number, average, data, rows_of_round(rows, number))
            for number in range(min(ROUNDS, step // STEPS_A_ROUND + 2))
        ]
        rate = RATE * min((step + 1) / WARMUP, 0.5 + 0.5 * np.cos(np.pi * max(0, step - WARMUP) / (steps - WARMUP)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        features, batch = draw(rounds, data, rows, run, step)
        torch.manual_seed(step)
        outputs = net.heads(from_stride_8(net, features))
        losses = losses_of(outputs, batch)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        follow(average, net, min(EMA, (1 + step) / (10 + step)))
        if step % JUDGE_EVERY == 0 or step == steps:
            report(folder, {"run": run, "step": step}, average, validation, val, val_rows)
            save_checkpoint(checkpoint, average, spec)
        if step % SAVE_EVERY == 0 or step == steps:
            save(state, net, average, optimizer, step)
            speed = (step - first) * sum(SHARES.values()) / (time.monotonic() - began)
            summary = ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            console.print(f"{time.strftime('%H:%M:%S')} run {run} step {step}: {summary}, {speed:.1f} images/s")
    return checkpoint


def losses_of(outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Compute the paper's losses without the triplet loss, since the embedding is fitted afterwards."""
    share = torch.full((batch.attributes.shape[1],), 0.5)
    losses = fashionnet_losses(outputs, batch, share, None, "l1")
    smooth = torch.nn.functional.cross_entropy(outputs["category"], batch.categories, label_smoothing=SMOOTHING)
    return {**{n: loss for n, loss in losses.items() if n != "triplet"}, "category": smooth * CATEGORY_WEIGHT}


def draw(
    rounds: list[Views], data: FashionData, rows: dict[str, NDArray[np.int64]], run: int, step: int
) -> tuple[Tensor, Batch]:
    """Draw the batch of a step: each set's share, from the rounds that are available at that step."""
    rng = np.random.default_rng([1, run * 100_000 + step])
    picked = []
    for name, count in SHARES.items():
        for _ in range(count):
            views = rounds[rng.integers(len(rounds))]
            picked.append((views, rng.choice(np.flatnonzero(np.isin(views.rows, rows[name])))))
    features = torch.from_numpy(np.stack([views.features[i] for views, i in picked]).astype(np.float32))
    photos = np.array([views.rows[i] for views, i in picked])
    batch = Batch(
        images=torch.empty(0),
        landmarks=torch.from_numpy(np.stack([views.landmarks[i] for views, i in picked])),
        visibility=torch.from_numpy(np.stack([views.visibility[i] for views, i in picked]).astype(np.int64)),
        categories=torch.from_numpy(data.categories[photos].astype(np.int64)),
        attributes=torch.from_numpy(data.attributes[photos]),
        items=torch.full((len(picked),), -1),
        rows=torch.from_numpy(photos),
    )
    return features.contiguous(memory_format=torch.channels_last), batch


@torch.no_grad()
def follow(average: FashionNet, net: FashionNet, decay: float) -> None:
    """Update the moving average of the weights."""
    for mean, current in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)


@torch.inference_mode()
def measure(net: FashionNet, data: FashionData, views: Views, rows: NDArray[np.int64]) -> dict[str, float]:
    """Compute the metrics of the run: categories, attributes, and landmark errors in shares of the box."""
    parts = []
    for chunk in np.array_split(rows, max(1, len(rows) // 32)):
        features = torch.from_numpy(views.features[chunk].astype(np.float32))
        parts.append(net.heads(from_stride_8(net, features.contiguous(memory_format=torch.channels_last))))
    outputs = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    top = category_accuracy(outputs["category"], data.categories[rows], (1, 3))
    recall = attribute_recall(outputs["attributes"], data.attributes[rows], data.attribute_groups, (3,))
    groups = {}
    for group in dict.fromkeys(data.attribute_groups):
        columns = np.flatnonzero([g == group for g in data.attribute_groups])
        best = columns[outputs["attributes"][:, columns].argmax(1)]
        labelled = (data.attributes[rows] > 0).any(1)
        groups[group] = float((data.attributes[rows][np.arange(len(rows)), best] > 0)[labelled].mean())
    points = outputs["landmarks"], views.landmarks[rows], views.visibility[rows]
    error = landmark_error_box(*points, np.ones((len(rows), 2)))  # the landmarks are in shares of the box already
    return {"top1": top[1], "top3": top[3], "recall3": recall["all"][3], "landmarks": error.mean, **groups}


def report(
    folder: Path,
    which: dict[str, int | str],
    net: FashionNet,
    data: FashionData,
    views: Views,
    rows: dict[str, NDArray[np.int64]],
) -> None:
    """Measure val, lying and worn garments separately, and append the metrics to metrics.jsonl."""
    metrics = {name: measure(net, data, views, rows[name]) for name in ("lying", "worn")}
    with (folder / METRICS).open("a") as file:
        file.write(json.dumps({**which, **metrics}) + "\n")
    what = " ".join(f"{name} {value}" for name, value in which.items())
    for name, values in metrics.items():
        console.print(f"{what} val {name}: " + ", ".join(f"{n} {v:.3f}" for n, v in values.items()))


def save(path: Path, net: FashionNet, average: FashionNet, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write everything that a stopped run needs to continue."""
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, {"step": str(step)}))


def load(path: Path, net: FashionNet, average: FashionNet, optimizer: torch.optim.Optimizer) -> int:
    """Load the state of a stopped run and return its step."""
    tensors = load_file(path)
    for name, network in (("net", net), ("average", average)):
        start = f"{name}."
        network.load_state_dict({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, part = name.split(".")
            state.setdefault(int(index), {})[part] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])
