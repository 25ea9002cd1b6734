"""The whole benchmark: several process starts, one after the other, whose results are joined."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fashion_infer import errors
from fashion_infer.arguments import number, whole_number
from fashion_infer.bench.environment import environment
from fashion_infer.bench.result import BenchResult, summarise
from fashion_infer.bench.scenarios import WARM_UP
from fashion_infer.bench.start import Start, Task
from fashion_infer.bench.statistics import MAX_STARTS
from fashion_infer.errors import BenchError, ModelError, UsageError, missing_extra
from fashion_infer.images import read_image
from fashion_infer.inputs import expand_paths
from fashion_infer.model_spec import PARITY_KEY
from fashion_infer.models import find_model
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render

LONGEST_S = 86_400.0  # longest duration of the measurements, seconds
SECONDS, QUICK_SECONDS = 100.0, 17.0  # of measuring, without loading the model and the first predictions
STARTS = 3
MAX_IMAGES = 64
RENDERED, RENDER_SEED = 32, 1_000_003


def bench_model(
    model: Path,
    photos: Path | None = None,
    *,
    starts: int = STARTS,
    seconds: float | None = None,
    quick: bool = False,
    mlperf: bool = False,
    logs: Path | None = None,
    **options: Any,
) -> BenchResult:
    """Measure a model in several processes, one after the other.

    Args:
        model: path of a file that `fashion-infer export` wrote, or the name of a built-in model.
        photos: a folder of encoded images; rendered garments when None.
        starts: number of processes, 1 to 10; `quick` uses one.
        seconds: approximate total duration of the measurements; None means 100, or 17 if `quick`.
        quick: whether to measure only latency, stages and throughput, which need no extra.
        mlperf: whether to use MLPerf's minimum durations for each scenario, which take hours.
        logs: folder for the load generator's logs; None discards them.
        options: keyword arguments of Predictor.

    Raises:
        MissingExtraError: the extra `bench` is needed and not installed.
        ImageError: the folder holds no images, or one cannot be read.
        BenchError: a process ended without a result.
        UsageError: starts or seconds out of range, or both quick and mlperf.
        FashionInferError: the Predictor failed.
    """
    if quick and mlperf:
        raise UsageError("quick leaves out the load generator that mlperf is about: give one of them")
    starts = 1 if quick else whole_number("starts", starts, 1, MAX_STARTS)
    if seconds is None:
        seconds = QUICK_SECONDS if quick else SECONDS
    seconds = number("seconds", seconds, 0, LONGEST_S, above=True)
    model = find_model(model)
    facts = _facts(model, needed=not quick)
    machine = environment()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images, workload = _workload(photos, folder)
        task = Task(
            model=str(model),
            images=images,
            options={name: value for name, value in options.items() if value is not None},
            seconds=seconds / starts,
            quick=quick,
            mlperf=mlperf,
            logs="",
            result=str(folder / "result.json"),
        )
        done = _all_starts([replace(task, logs=str((logs or folder) / f"start-{n + 1}")) for n in range(starts)])
    settings = {"starts": starts, "seconds": seconds, "quick": quick, "mlperf": mlperf, "warm_up": WARM_UP}
    return summarise(done, facts, machine, workload, settings | {"predictor": task.options})


def _all_starts(tasks: Sequence[Task]) -> list[Start]:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task("")
        progress.update(shown, description="loading the model once, not counted")
        _one_start(replace(tasks[0], quick=True, seconds=0.0))  # warms the file cache, and chooses sessions and threads
        done = []
        for number, task in enumerate(tasks, 1):
            text = f"process start {number} of {len(tasks)}, about {task.seconds:.0f} seconds each"
            progress.update(shown, description=text if not task.mlperf else text.partition(",")[0])
            done.append(_one_start(task))
    return done


def _one_start(task: Task) -> Start:
    command = [sys.executable, "-P", "-m", "fashion_infer.bench.start"]
    launched = json.dumps(asdict(replace(task, launched=time.time())))
    ran = subprocess.run(command, input=launched, capture_output=True, text=True)
    if ran.returncode != 0:
        raise BenchError(f"a process of the benchmark ended with code {ran.returncode}: {ran.stderr.strip()[-2000:]}")
    answer = json.loads(Path(task.result).read_text())
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return Start(**answer)


def _workload(photos: Path | None, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The paths of the images and facts about them. Each is read once, so that unusable ones are noticed now."""
    if photos is None:
        for index in range(RENDERED):
            (folder / f"{index:02}.jpg").write_bytes(to_jpeg(render(RENDER_SEED, index)))
    images = expand_paths([str(photos or folder)])[:MAX_IMAGES]
    pictures = [read_image(image, side=32) for image in images]
    return images, {
        "source": "rendered garments" if photos is None else str(photos),
        "images": len(images),
        "mean_bytes": fmean(Path(image).stat().st_size for image in images),
        "mean_megapixels": fmean(picture.width * picture.height / 1e6 for picture in pictures),
    }


def _facts(model: Path, *, needed: bool) -> dict[str, Any]:
    """Parity, accuracy and operations of an .onnx file; needs the package `onnx` of the extra `bench`."""
    unknown = {"parity": "unverified", "accuracy": "unverified", "operations": None}
    if model.suffix != ".onnx":
        return unknown
    if needed:
        import fashion_infer.bench.loadgen  # noqa: F401 - names the missing extra before anything is measured
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        if needed:
            raise missing_extra(error.name or "onnx", "bench", error) from error
        return unknown | {"parity": "not read, onnx is not installed", "accuracy": "not read, onnx is not installed"}
    from fashion_infer.bench.ceiling import count_operations

    try:
        proto = onnx.load(model)
    except (DecodeError, OSError, ValueError):
        return unknown  # the first process start will report the fault
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    facts = unknown | ({"parity": json.loads(metadata[PARITY_KEY])} if PARITY_KEY in metadata else {})
    if isinstance(facts["parity"], dict):  # a quantised file stores its accuracy there as well
        facts["accuracy"] = facts["parity"].pop("accuracy", "unverified")
    with suppress(ModelError):  # a file changed by other tools may lack shapes
        facts["operations"] = count_operations(proto)
    return facts
