"""The folder of a training run: its results, and the state that a stopped run needs to continue.

It holds config.json (settings, versions, commit), metrics.jsonl, tensorboard/, state.safetensors (the complete state of
the run), model.safetensors (the checkpoint with averaged weights, for export and evaluation) and skipped.json (images
that were left out).
"""

import json
import logging
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import fashion_infer
from fashion_infer.errors import TrainingError
from fashion_infer.files import write_atomically
from fashion_infer.training.model import FashionNet

logger = logging.getLogger("fashion_infer")

CHECKPOINT, STATE, CONFIG, METRICS, SKIPPED = (
    "model.safetensors", "state.safetensors", "config.json", "metrics.jsonl", "skipped.json",
)  # fmt: skip
MAY_CHANGE = ("device", "workers")  # settings that may differ in a resumed run: they do not affect the batches
Log = Callable[[str, int, dict[str, float]], None]


@dataclass
class State:
    """Everything that changes during a run.

    Attributes:
        model: The network in training.
        ema: Exponential moving average of the network's weights.
        optimizer: The optimiser.
        scaler: Scales the losses, for fp16 only.
        step: Number of finished steps.
    """

    model: FashionNet
    ema: FashionNet
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0


def open_folder(folder: Path, settings: dict[str, Any], state: State, resume: bool) -> None:
    """Create a run's folder, or load the state of the run in it.

    Args:
        folder: The folder of the run.
        settings: The settings of the run, in JSON types; a resumed run must have the same.
        state: The state to save, or, with `resume`, to fill in place.
        resume: Continue the run in the folder.

    Raises:
        TrainingError: There is no run to resume, its settings differ, or the folder holds a run already.
    """
    record = folder / CONFIG
    if resume:
        _resume(folder, settings, state)
    elif record.exists():
        raise TrainingError(f"{folder} holds a run already: add --resume to go on with it, or choose another folder")
    else:
        versions = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "fashion_infer": fashion_infer.__version__,
        }
        text = json.dumps({"config": settings, "versions": versions, "commit": _commit()}, indent=2)
        save_state(folder / STATE, state)  # so that a run that is killed before its first regular save can be resumed
        with naming_full_disk(folder):
            write_atomically(record, lambda temporary: temporary.write_text(text))


def _resume(folder: Path, settings: dict[str, Any], state: State) -> None:
    if not (folder / STATE).is_file():
        raise TrainingError(f"{folder} holds no run to resume (no {STATE}): start it without --resume")
    try:
        before = json.loads((folder / CONFIG).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder / CONFIG} is missing or damaged: the run cannot be resumed ({error})") from error
    now = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    changed = [name for name in now if name not in MAY_CHANGE and now[name] != before.get(name)]
    if changed:
        raise TrainingError(
            f"the run in {folder} has other settings ({', '.join(changed)}): resume with the same, "
            "or start a new run in another folder"
        )
    load_state(folder / STATE, state)


def _commit() -> str | None:
    """Return the commit of the git checkout that the package runs from; None if it is installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return result.stdout.strip() or None


def save_state(path: Path, state: State) -> None:
    """Write everything that a stopped run needs to continue, under a temporary name, then rename it.

    Raises:
        TrainingError: The file cannot be written; the previous file stays as it was.
    """
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if (device := _device(state)).type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": str(state.step), "scaler": json.dumps(state.scaler.state_dict())}
    with naming_full_disk(path):
        write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata))


def load_state(path: Path, state: State) -> None:
    """Load a file of `save_state` into a state, in place.

    Raises:
        TrainingError: The file is damaged, or belongs to another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "random": {}}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        for name, tensor in load_file(path).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        state.model.load_state_dict(parts["model"])
        state.ema.load_state_dict(parts["ema"])
        state.step = int(metadata["step"])
        state.scaler.load_state_dict(json.loads(metadata["scaler"]))
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged, or of another network: the run cannot be resumed ({error})") from error
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, moment = name.partition(".")
        moments.setdefault(int(index), {})[moment] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and (device := _device(state)).type == "cuda":
        torch.cuda.set_rng_state(parts["random"]["cuda"], device)


def _device(state: State) -> torch.device:
    """Return the device whose random numbers the run uses."""
    return next(state.model.parameters()).device


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn every error that prevents a file from being written into a TrainingError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"{path} cannot be written ({reason}): the last good state is kept, make room and --resume"
        ) from error


@contextmanager
def open_logs(folder: Path, step: int) -> Iterator[Log]:
    """Open metrics.jsonl and TensorBoard; entries later than `step` are dropped.

    Args:
        folder: The folder of the run.
        step: The step that the run continues after.

    Yields:
        A function of a kind (`train` or `validation`), a step and values by name, which logs them in both places.
    """
    with naming_full_disk(folder):
        _drop_later_lines(folder / METRICS, step)
        lines = (folder / METRICS).open("a")
        board = SummaryWriter(folder / "tensorboard", purge_step=step + 1 if step else None)

    def log(kind: str, step: int, values: dict[str, float]) -> None:
        with naming_full_disk(folder / METRICS):
            lines.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            lines.flush()
            for name, value in values.items():
                board.add_scalar(f"{kind}/{name}", value, step)

    try:
        yield log
    finally:
        with suppress(OSError):  # a full disk has been reported already, when a line could not be written
            board.close()
        with suppress(OSError):
            lines.close()


def _drop_later_lines(path: Path, step: int) -> None:
    """Drop the lines that a killed run logged after its last saved state: the resumed run logs them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        with suppress(ValueError):  # the last line may be cut short
            if json.loads(line)["step"] <= step:
                kept.append(line)
    write_atomically(path, lambda temporary: temporary.write_text("".join(kept)))


def report_skipped(skipped: dict[str, str], folder: Path) -> None:
    """Add images that could not be used, with the reasons, to the run's list of skipped images."""
    path = folder / SKIPPED
    if not skipped:
        return
    with suppress(OSError, ValueError):
        skipped = {**json.loads(path.read_text()), **skipped}
    text = json.dumps(skipped, indent=2)
    with naming_full_disk(path):
        write_atomically(path, lambda temporary: temporary.write_text(text))
    logger.warning("%d images could not be read and were left out: see %s", len(skipped), path)
