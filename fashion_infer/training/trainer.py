"""Training FashionNet as the paper does: two stages in turn, pooling at the landmarks that the network itself predicts.

One step reads: batch, forward, losses of the stage, backward, optimiser, average of the weights.
"""

import copy
import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from fashion_infer.backends import Outputs
from fashion_infer.data.deepfashion import FashionData
from fashion_infer.errors import TrainingError
from fashion_infer.judge import Run, judge
from fashion_infer.model_spec import OUTPUT_NAMES, ModelSpec
from fashion_infer.training.batches import Loader
from fashion_infer.training.checkpoint import load_backbone, save_checkpoint
from fashion_infer.training.losses import Batch, fashionnet_losses
from fashion_infer.training.model import Architecture, Deployed, FashionNet
from fashion_infer.training.run_folder import (
    CHECKPOINT,
    STATE,
    State,
    open_folder,
    open_logs,
    report_skipped,
    save_state,
    saving_on_interrupt,
)

SAVE_SECONDS = 300  # a killed run loses no more than this


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run.

    Attributes:
        backbone: `vgg16` for the paper's network, or a timm name.
        image_size: side of the network's input, pixels.
        width: of the heads and of vgg16's convolutions, 1 is the paper's.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: the highest; it warms up linearly and falls as a cosine.
        weight_decay: of AdamW.
        warmup: share of the steps in [0, 1].
        rounds: how often the two stages take turns; 0 trains everything jointly.
        ema_decay: of the averaged weights, in [0, 1).
        max_grad_norm: gradients are clipped to it.
        precision: fp32, or bf16 for autocast.
        device: cpu, cuda, cuda:0, ...
        workers: processes that decode images.
        seed: of everything random.
    """

    backbone: str = "tf_efficientnet_lite0"
    image_size: int = 224
    width: float = 1.0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    warmup: float = 0.05
    rounds: int = 2
    ema_decay: float = 0.999
    max_grad_norm: float = 5.0
    precision: str = "fp32"
    device: str = "cpu"
    workers: int = 1
    seed: int = 0


def train(
    config: TrainConfig,
    training: FashionData,
    validation: FashionData,
    folder: Path,
    *,
    backbone_weights: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train a FashionNet.

    Args:
        config: the settings.
        training: the rows to learn from.
        validation: the rows to judge each epoch on.
        folder: of the run; made when it is not there.
        backbone_weights: ImageNet weights to start from, see `load_backbone`; random ones when None.
        resume: go on with the run in `folder`, to the same loss curve as if it had never stopped.

    Returns:
        The path of the checkpoint.

    Raises:
        TrainingError: the loss is no longer finite (the last good state stays), or the folder holds another run.
        DataError: there is nothing to train on.
        ModelError: the backbone's weights do not fit.
    """
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    spec = _spec(config, training)
    loader = Loader(training, config.image_size, config.seed, config.workers)
    steps_per_epoch = math.ceil(len(training) / config.batch_size)
    steps = config.epochs * steps_per_epoch
    state = _new_state(config, spec, backbone_weights, device)
    open_folder(folder, dataclasses.asdict(config), state, resume)
    share = _positive_share(training).to(device)
    batches = loader.training(config.batch_size, state.step, steps)
    saved = time.monotonic()
    with saving_on_interrupt(folder, state), _progress() as progress, open_logs(folder) as log:
        bar = progress.add_task("training", total=steps, completed=state.step, note="")
        while state.step < steps:
            start = time.perf_counter()
            stage = stage_at(state.step, steps, config.rounds)
            rate = learning_rate_at(state.step, steps, config)
            losses = _step(state, next(batches).to(device), share, stage, rate, config)
            speed = config.batch_size / (time.perf_counter() - start)
            log("train", state.step, {**losses, "learning_rate": rate, "images_per_second": speed})
            progress.update(bar, advance=1, note=f"loss {sum(losses.values()):.3f}, {speed:.0f} images/s")
            end_of_epoch = state.step % steps_per_epoch == 0
            if end_of_epoch:
                metrics = validate(state.ema, spec, validation, config)
                log("validation", state.step, metrics)
                words = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
                progress.console.print(f"epoch {state.step // steps_per_epoch} of {config.epochs}: {words}")
                save_checkpoint(folder / CHECKPOINT, state.ema, spec)
            if end_of_epoch or time.monotonic() - saved > SAVE_SECONDS:
                save_state(folder / STATE, state)
                saved = time.monotonic()
    report_skipped(loader.skipped, folder)
    return folder / CHECKPOINT


def stage_at(step: int, steps: int, rounds: int) -> int | None:
    """1 or 2: the stages take turns, `rounds` times each; None for joint training, which has no stages."""
    return 1 + step * 2 * rounds // steps % 2 if rounds else None


def learning_rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to 0."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def validate(model: FashionNet, spec: ModelSpec, data: FashionData, config: TrainConfig) -> dict[str, float]:
    """The paper's metrics on a validation set, by the code that judges exported models: what is a number, by name."""
    run = network_run(model, spec, config.device, config.precision)
    metrics = judge(run, spec, data, batch_size=config.batch_size).evaluation.to_dict()
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def network_run(model: FashionNet, spec: ModelSpec, device: str = "cpu", precision: str = "fp32") -> Run:
    """The `run` of a network that was not exported: uint8 [N, S, S, 3] RGB -> outputs as `Predictor.run` gives them."""
    deployed = Deployed(model, spec.temperature).eval().to(device)

    @torch.inference_mode()
    def run(batch: NDArray[np.uint8]) -> Outputs:
        with _autocast(device, precision):
            outputs = deployed(torch.from_numpy(batch).to(device))
        return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUT_NAMES, outputs, strict=True)}

    return run


def _step(
    state: State, batch: Batch, positive_share: Tensor, stage: int | None, rate: float, config: TrainConfig
) -> dict[str, float]:
    """One step of the optimiser; returns the losses by name."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.model.train()
    with _autocast(config.device, config.precision):
        outputs = state.model(batch.images)
        losses = fashionnet_losses(outputs, batch, positive_share, stage)
    values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
    if not all(math.isfinite(value) for value in values.values()):
        raise TrainingError(
            f"the loss is not finite at step {state.step} ({values}): lower the learning rate and --resume"
        )
    torch.stack(list(losses.values())).sum().backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.max_grad_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    _average(state.ema, state.model, min(config.ema_decay, (1 + state.step) / (10 + state.step)))
    return values


@torch.no_grad()
def _average(ema: FashionNet, model: FashionNet, decay: float) -> None:
    for average, current in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(current, 1 - decay)
        else:
            average.copy_(current)


def _new_state(config: TrainConfig, spec: ModelSpec, backbone_weights: Path | None, device: torch.device) -> State:
    arch = Architecture(
        config.backbone,
        config.image_size,
        len(spec.categories),
        len(spec.attributes),
        spec.embedding_dim,
        config.width,
    )
    model = FashionNet(arch)
    if backbone_weights is not None:
        load_backbone(model, backbone_weights)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay)
    return State(model, copy.deepcopy(model).eval(), optimizer)


def _spec(config: TrainConfig, data: FashionData) -> ModelSpec:
    return ModelSpec(
        arch=config.backbone,
        image_size=config.image_size,
        categories=data.category_names,
        attributes=data.attribute_names,
        attribute_groups=data.attribute_groups,
        embedding_dim=256,
        trained=True,
        weights_sha256="",  # known once they are saved
    )


def _positive_share(data: FashionData) -> Tensor:
    """[A]: of the known labels of each attribute the share of positives."""
    positive, known = (data.attributes > 0).sum(0), (data.attributes != 0).sum(0)
    return torch.from_numpy((positive / np.maximum(known, 1)).astype(np.float32))


def _autocast(device: str, precision: str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
