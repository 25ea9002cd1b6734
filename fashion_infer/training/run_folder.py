"""A run's folder: what a training run leaves, and what a stopped one needs to go on.

config.json (settings, versions, commit), metrics.jsonl, tensorboard/, state.safetensors (the whole state of the run),
model.safetensors (the checkpoint: averaged weights, for export and evaluation), skipped.json (images left out).
"""

import json
import logging
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import fashion_infer
from fashion_infer.errors import TrainingError
from fashion_infer.files import write_atomically
from fashion_infer.training.model import FashionNet

logger = logging.getLogger("fashion_infer")

CHECKPOINT, STATE = "model.safetensors", "state.safetensors"


@dataclass
class State:
    """Everything that changes while a run goes on."""

    model: FashionNet
    ema: FashionNet
    optimizer: torch.optim.Optimizer
    step: int = 0


def open_folder(folder: Path, settings: dict[str, Any], state: State, resume: bool) -> None:
    """Start a run's folder, or take its state up."""
    record = folder / "config.json"
    if resume:
        if not (folder / STATE).is_file():
            raise TrainingError(f"{folder} holds no run to resume (no {STATE})")
        if (before := json.loads(record.read_text())["config"]) != settings:
            changed = ", ".join(name for name in settings if settings[name] != before.get(name))
            raise TrainingError(
                f"the run in {folder} has other settings ({changed}): resume with the same, or start anew"
            )
        load_state(folder / STATE, state)
        return
    if record.exists():
        raise TrainingError(f"{folder} holds a run already: add --resume to go on with it, or choose another folder")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fashion_infer": fashion_infer.__version__,
    }
    text = json.dumps({"config": settings, "versions": versions, "commit": _commit()}, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(text)


def _commit() -> str | None:
    """Of the checkout that this package is run from; None where it is installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def save_state(path: Path, state: State) -> None:
    """Write everything that a stopped run needs, under a temporary name, then rename it."""
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, {"step": str(state.step)}))


def load_state(path: Path, state: State) -> None:
    """Take up what `save_state` wrote."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "random": {}}
    for name, tensor in load_file(path).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    state.model.load_state_dict(parts["model"])
    state.ema.load_state_dict(parts["ema"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, moment = name.partition(".")
        moments.setdefault(int(index), {})[moment] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["random"]["cuda"])
    with safe_open(path, "pt") as file:
        state.step = int(file.metadata()["step"])


@contextmanager
def saving_on_interrupt(folder: Path, state: State) -> Iterator[None]:
    """Save the state on Ctrl-C, then let it end the run."""
    try:
        yield
    except KeyboardInterrupt:
        save_state(folder / STATE, state)
        raise


@contextmanager
def open_logs(folder: Path) -> Iterator[Callable[[str, int, dict[str, float]], None]]:
    """A function that writes one line of metrics to metrics.jsonl and to TensorBoard."""
    with (folder / "metrics.jsonl").open("a") as lines, SummaryWriter(folder / "tensorboard") as board:

        def log(kind: str, step: int, values: dict[str, float]) -> None:
            lines.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            lines.flush()
            for name, value in values.items():
                board.add_scalar(f"{kind}/{name}", value, step)

        yield log


def report_skipped(skipped: dict[str, str], folder: Path) -> None:
    """List the images that could not be used, with the reasons."""
    if skipped:
        (folder / "skipped.json").write_text(json.dumps(skipped, indent=2))
        logger.warning("%d images could not be read and were left out: see %s", len(skipped), folder / "skipped.json")
