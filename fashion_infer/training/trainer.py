"""Training FashionNet as in the paper: two alternating stages, with features pooled at the predicted landmarks."""

import copy
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from fashion_infer.backends import Outputs
from fashion_infer.data.benchmarks import READERS, benchmarks_in
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError, DeviceError, TrainingError
from fashion_infer.evaluation.judging import Judgement, Run, judge
from fashion_infer.interrupts import interruptible
from fashion_infer.model_spec import OUTPUT_NAMES, ModelSpec
from fashion_infer.training.batches import Loader
from fashion_infer.training.checkpoint import load_backbone, load_network, save_checkpoint
from fashion_infer.training.config import TrainConfig
from fashion_infer.training.losses import Batch, fashionnet_losses
from fashion_infer.training.model import Architecture, Deployed, FashionNet, TimmBackbone
from fashion_infer.training.run_folder import (
    CHECKPOINT,
    STATE,
    Log,
    State,
    naming_full_disk,
    open_folder,
    open_logs,
    report_skipped,
    save_state,
)

logger = logging.getLogger("fashion_infer")

EMBEDDING_DIM = 256
SAVE_SECONDS = 300  # time between saved states: the most that a killed run loses
WARMUP = 0.05  # share of the steps during which the learning rate rises
MAX_GRAD_NORM = 5.0  # gradients are clipped to this norm
EMA_DECAY = 0.999  # weight of the previous average in the moving average of the weights
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Settings that TrainConfig passes on to Architecture.
ARCHITECTURE = ("backbone", "image_size", "width", "pooling", "gate", "pooled_size", "bin_size")
LABELLED = ("category", "category_fine", "deepfashion2")  # benchmarks with labelled categories
PAIRED = ("in_shop", "consumer_to_shop", "retrieval", "deepfashion2")  # benchmarks with several photos per item
HEADLINES = ("category_top1", "category_top3", "attribute_recall3_all", "landmark_error_box")


def train_folder(
    config: TrainConfig,
    data: Path,
    folder: Path,
    *,
    pairs: Path | None = None,
    highres: bool | None = None,
    backbone_weights: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train on the `train` split of a set with labelled categories, and validate on its `val` split.

    Args:
        config: The settings.
        data: The folder of one of the benchmarks `LABELLED`.
        folder: The folder of the run.
        pairs: The folder of one of the benchmarks `PAIRED`, whose training items are used for the triplet loss.
        highres: Which photos the labels of both sets belong to, see `highres.at_true_size`.
        backbone_weights: ImageNet weights to start from, see `load_backbone`; random ones when None.
        resume: Continue the run in `folder`.

    Returns:
        The path of the checkpoint.

    Raises:
        DataError: A file of the data sets is missing or malformed.
        TrainingError, DeviceError, ModelError: See `train`.
    """
    images = _read(data, LABELLED, "labelled categories", highres)
    training = images.split("train")
    if pairs is not None:
        training = training.append(_read(pairs, PAIRED, "several photos of an item", highres).split("train"))
    for message in training.missing:
        logger.warning("%s", message)
    return train(config, training, images.split("val"), folder, backbone_weights=backbone_weights, resume=resume)


def train(
    config: TrainConfig,
    training: FashionData,
    validation: FashionData,
    folder: Path,
    *,
    backbone_weights: Path | None = None,
    start_from: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a FashionNet.

    On Ctrl-C the current step is finished and the state saved; then KeyboardInterrupt is raised.

    Args:
        config: The settings.
        training: The rows to train on.
        validation: The rows to validate on after each epoch.
        folder: The folder of the run; it is created if necessary.
        backbone_weights: ImageNet weights to start from, see `load_backbone`; random ones when None.
        start_from: A checkpoint with the same categories and attributes to start from instead; its input size may
            differ.
        resume: Continue the run in `folder`, with the same losses as if it had never stopped.

    Returns:
        The path of the checkpoint.

    Raises:
        TrainingError: The loss is no longer finite or the disk is full (the last good state is kept), or the folder
            holds another run.
        DataError: There are no images to train on, or none of a batch can be read.
        DeviceError: torch cannot use the device.
        ModelError: The weights to start from do not fit.
    """
    if not len(training):
        raise DataError("there are no images to train on")
    device = _device(config.device)
    torch.manual_seed(config.seed)
    spec = _spec(config, training)
    state = _new_state(config, spec, backbone_weights, start_from)
    open_folder(folder, {**dataclasses.asdict(config), "training_data": _fingerprint(training)}, state, resume)
    loader = Loader(training, config.image_size, config.seed, config.workers, strong=config.augmentation == "strong")
    steps_per_epoch = math.ceil(len(training) / config.batch_size)
    steps = config.epochs * steps_per_epoch
    batches = loader.batches(config.batch_size, state.step, steps)
    share = _positive_share(training) if config.balanced else torch.full((len(spec.attributes),), 0.5)
    share = share.to(device)
    saved = time.monotonic()
    try:
        with interruptible(second_stops=True) as stop, _progress() as progress, open_logs(folder, state.step) as log:
            bar = progress.add_task("training", total=steps, completed=state.step, note="")
            while state.step < steps:
                start = time.perf_counter()
                losses = _step(state, next(batches).to(device), share, steps, config)
                speed = config.batch_size / (time.perf_counter() - start)
                log("train", state.step, {**losses, "images_per_second": speed})
                progress.update(bar, advance=1, note=f"loss {losses['total']:.3f}, {speed:.0f} images/s")
                if end_of_epoch := state.step % steps_per_epoch == 0:
                    judgement = validate(state.ema, spec, validation, config)
                    loader.skipped |= judgement.skipped
                    _keep(judgement, state, spec, folder, log, progress.console)
                if end_of_epoch or stop.is_set() or time.monotonic() - saved > SAVE_SECONDS:
                    save_state(folder / STATE, state)
                    saved = time.monotonic()
                if stop.is_set() and state.step < steps:
                    raise KeyboardInterrupt(f"stopped after step {state.step} of {steps}, go on with --resume")
    finally:
        report_skipped(loader.skipped, folder)
    return folder / CHECKPOINT


def _read(folder: Path, kinds: tuple[str, ...], what: str, highres: bool | None) -> FashionData:
    """Read the first benchmark of these kinds in a folder."""
    names = [name for name in kinds if name in benchmarks_in(folder)]
    if not names:
        raise DataError(f"{folder} holds no set with {what}: it would be one of {', '.join(kinds)}")
    return READERS[names[0]](folder, highres=highres)


def stage_at(step: int, steps: int, rounds: int) -> int | None:
    """Return the stage of a step, 1 or 2: they alternate, `rounds` times each. None means joint training."""
    return 1 + step * 2 * rounds // steps % 2 if rounds else None


def learning_rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine down to 0."""
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def validate(model: FashionNet, spec: ModelSpec, data: FashionData, config: TrainConfig) -> Judgement:
    """Evaluate a network in the same way as exported models."""
    return judge(network_run(model, spec, config.device, config.precision), spec, data, batch_size=config.batch_size)


def network_run(model: FashionNet, spec: ModelSpec, device: str = "cpu", precision: str = "fp32") -> Run:
    """Return a `run` like `Predictor.run` for a network that is not exported: uint8 [N, S, S, 3] RGB -> outputs.

    Args:
        model: The network.
        spec: The network's ModelSpec.
        device: torch device to run on.
        precision: `fp32`, or `bf16` or `fp16` for autocast.

    Raises:
        DeviceError: torch cannot use the device.
    """
    deployed = Deployed(model, spec.temperature).eval().to(_device(device))

    @torch.inference_mode()
    def run(batch: NDArray[np.uint8]) -> Outputs:
        with _autocast(device, precision):
            outputs = deployed(torch.from_numpy(batch).to(device))
        return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUT_NAMES, outputs, strict=True)}

    return run


def _step(state: State, batch: Batch, positive_share: Tensor, steps: int, config: TrainConfig) -> dict[str, float]:
    """Run one training step and return the values to log, by name."""
    rate = learning_rate_at(state.step, steps, config)
    stage = stage_at(state.step, steps, config.rounds)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.model.train()
    if config.freeze_early:
        for layer in _early_layers(state.model):
            layer.eval()  # otherwise batch normalisation would still update its statistics
    with _autocast(config.device, config.precision):
        losses = fashionnet_losses(state.model(batch.images), batch, positive_share, stage, config.landmark_norm)
    total = torch.stack([losses[name] for name in config.losses]).sum()
    state.scaler.scale(total).backward()
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), MAX_GRAD_NORM)
    numbers = torch.stack([*losses.values(), total, norm]).tolist()
    values = dict(zip([*losses, "total", "grad_norm"], numbers, strict=True))
    _check_finite(values, state, config)
    state.scaler.step(state.optimizer)  # skips the update if scaled gradients overflowed
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    _average(state.ema, state.model, min(EMA_DECAY, (1 + state.step) / (10 + state.step)))
    return {**values, "learning_rate": rate, "stage": float(stage or 0)}


def _check_finite(values: dict[str, float], state: State, config: TrainConfig) -> None:
    scaled = config.precision == "fp16"
    if wrong := [n for n, v in values.items() if not math.isfinite(v) and not (scaled and n == "grad_norm")]:
        raise TrainingError(
            f"{', '.join(wrong)} is not finite at step {state.step}: the last good state and checkpoint are kept, "
            "start a new run with a lower learning rate"
        )


@torch.no_grad()
def _average(ema: FashionNet, model: FashionNet, decay: float) -> None:
    for average, current in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(current, 1 - decay)
        else:
            average.copy_(current)


def _keep(judgement: Judgement, state: State, spec: ModelSpec, folder: Path, log: Log, console: Console) -> None:
    """Log and print an epoch's metrics and write its checkpoint."""
    metrics = {n: v for n, v in judgement.evaluation.to_dict().items() if isinstance(v, float)}
    log("validation", state.step, metrics)
    summary = ", ".join(f"{name} {metrics[name]:.3f}" for name in HEADLINES if name in metrics)
    console.print(f"step {state.step}: {summary}", soft_wrap=True)
    with naming_full_disk(folder / CHECKPOINT):
        save_checkpoint(folder / CHECKPOINT, state.ema, spec)


def _new_state(config: TrainConfig, spec: ModelSpec, backbone_weights: Path | None, start_from: Path | None) -> State:
    shared = {name: getattr(config, name) for name in ARCHITECTURE}
    arch = Architecture(
        num_categories=len(spec.categories),
        num_attributes=len(spec.attributes),
        embedding_dim=spec.embedding_dim,
        **shared,
    )
    model = FashionNet(arch)
    if backbone_weights is not None:
        load_backbone(model, backbone_weights)
    if start_from is not None:
        load_network(model, spec, start_from)
    if config.freeze_early:
        for layer in _early_layers(model):
            layer.requires_grad_(requires_grad=False)
    model = model.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval()
    if config.precision == "bf16" and config.device.startswith("cpu"):
        _keep_depthwise_in_fp32(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=config.weight_decay)
    scaler = torch.amp.GradScaler(torch.device(config.device).type, enabled=config.precision == "fp16")
    return State(model, average, optimizer, scaler)


def _early_layers(model: FashionNet) -> list[nn.Module]:
    assert isinstance(model.backbone, TimmBackbone)  # TrainConfig refuses freeze_early with vgg16
    return model.backbone.early_layers()


def _keep_depthwise_in_fp32(model: FashionNet) -> None:
    """Run depthwise convolutions in fp32: on a CPU their backward pass takes 3 to 6 times as long in bf16."""

    def in_fp32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return forward(x.float())

        return run

    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = in_fp32(module.forward)  # type: ignore[assignment, method-assign]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"torch cannot use device {name!r} here: {reason}") from error
    return device


def _spec(config: TrainConfig, data: FashionData) -> ModelSpec:
    return ModelSpec(
        arch=config.backbone,
        image_size=config.image_size,
        categories=data.category_names,
        attributes=data.attribute_names,
        attribute_groups=data.attribute_groups,
        embedding_dim=EMBEDDING_DIM,
        trained=True,
        weights_sha256="",  # computed when the weights are saved
    )


def _positive_share(data: FashionData) -> Tensor:
    """Return the share of positives among the labels of each attribute, float32 [A] in [0, 1].

    If all labels of an attribute are equal, its share is set to 0.5. Otherwise an attribute without positives would
    give its negatives the weight 0, stay untrained and be predicted at random.
    """
    positive, labelled = (data.attributes > 0).sum(0), (data.attributes != 0).sum(0)
    alike = (positive == 0) | (positive == labelled)
    if names := [name for name, same in zip(data.attribute_names, alike, strict=True) if same]:
        first_names = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        logger.warning("%d attributes have no positive or no negative label: %s", len(names), first_names)
    return torch.from_numpy(np.where(alike, 0.5, positive / np.maximum(labelled, 1)).astype(np.float32))


def _fingerprint(data: FashionData) -> str:
    """Return a hash of the images' names and the labels; a resumed run must have the same."""
    digest = hashlib.sha256(
        "\n".join((*data.images, *data.category_names, *data.attribute_names)).encode(errors="surrogateescape")
    )
    for column in (data.boxes, data.categories, data.attributes, data.landmarks, data.visibility, data.items):
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def _autocast(device: str, precision: str) -> torch.autocast:
    dtype = AUTOCAST[precision]
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype is not None)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"))
    last = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, *last, console=Console(stderr=True))
