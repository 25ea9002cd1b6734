"""One process start of the benchmark: `python -m fashion_infer.bench.start`, a Task as JSON in, a Start as JSON out.

The time to the first prediction is counted from before the process exists. Modules that prediction does not need are
imported afterwards.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashion_infer.bench.environment import peak_memory_mib
from fashion_infer.bench.scenarios import latency, throughput
from fashion_infer.errors import FashionInferError
from fashion_infer.machine import usable_cores
from fashion_infer.predictor import Predictor

LATENCY, THROUGHPUT, CEILING, SCENARIOS = 0.25, 0.2, 0.05, 0.5  # shares of the duration
PARTS_OF_QUICK = 0.7, 0.3


@dataclass(frozen=True)
class Task:
    """The task of one process start.

    Attributes:
        model: path of the model file.
        images: paths of encoded images that can be read.
        options: keyword arguments of Predictor.
        seconds: approximate duration of the measurements.
        quick: whether to leave out the load generator and the ceiling, which need an extra.
        mlperf: whether the load generator uses MLPerf's minimum durations.
        logs: folder for the load generator's logs.
        result: path of the file for the Start or the error.
        launched: `time.time()` just before the process was started.
    """

    model: str
    images: list[str]
    options: dict[str, Any]
    seconds: float
    quick: bool
    mlperf: bool
    logs: str
    result: str
    launched: float = 0.0


@dataclass(frozen=True)
class Start:
    """The measurements of one process start.

    Attributes:
        model: path, layout, hash and facts from the ModelSpec.
        first_prediction_s: seconds from before the process existed to its first Prediction.
        first_memory_mib: peak memory until then, MiB; None if it cannot be read.
        peak_memory_mib: peak memory until the end of latency and throughput, MiB.
        latency: milliseconds of each run of `e2e` and `engine`.
        stages: mean milliseconds of each stage of `e2e`.
        stream: images per second end to end.
        batches: images per second of the engine alone, by batch size.
        ceiling: operations per second of a matrix product, by type; empty if it was not measured.
        scenarios: fields of each `loadgen.Scenario`; empty if quick.
    """

    model: dict[str, Any]
    first_prediction_s: float
    first_memory_mib: float | None
    peak_memory_mib: float | None
    latency: dict[str, list[float]]
    stages: dict[str, float]
    stream: float
    batches: dict[str, float]
    ceiling: dict[str, float]
    scenarios: list[dict[str, Any]]


def measure(task: Task) -> Start:
    """Load the model and measure it, in this process.

    Raises:
        FashionInferError: the Predictor failed.
    """
    images = [Path(path).read_bytes() for path in task.images]
    with Predictor(task.model, **task.options) as predictor:
        predictor.predict(images[0])
        first, memory = time.time() - task.launched, peak_memory_mib()
        for_latency, for_throughput = PARTS_OF_QUICK if task.quick else (LATENCY, THROUGHPUT)
        alone = latency(predictor, images, seconds=for_latency * task.seconds)
        image_ms = {name: sorted(samples)[len(samples) // 2] for name, samples in alone.samples.items()}
        stream, batches = throughput(predictor, images, seconds=for_throughput * task.seconds, image_ms=image_ms["e2e"])
        peak = peak_memory_mib()
        ceiling: dict[str, float] = {}
        scenarios: list[dict[str, Any]] = []
        if not task.quick:
            from fashion_infer.bench.ceiling import measure_ceiling
            from fashion_infer.bench.loadgen import RUNS, Pace, run_scenarios

            if task.options.get("device") in (None, "cpu") and task.model.endswith(".onnx"):
                ceiling = measure_ceiling(task.options.get("threads") or usable_cores(), seconds=CEILING * task.seconds)
            pace = {
                "e2e": Pace(image_ms["e2e"], stream),
                "engine": Pace(image_ms["engine"], max(batches.values())),
            }
            found = run_scenarios(
                predictor,
                images,
                pace=pace,
                seconds=SCENARIOS * task.seconds / RUNS,
                logs=Path(task.logs),
                full=task.mlperf,
            )
            scenarios = [asdict(scenario) for scenario in found]
        model = {
            "path": task.model,
            "layout": _layout(predictor),
            "sha256": predictor.sha256,
            "arch": predictor.spec.arch,
            "image_size": predictor.spec.image_size,
            "trained": predictor.spec.trained,
        }
    return Start(model, first, memory, peak, alone.samples, alone.stages, stream, batches, ceiling, scenarios)


def _layout(predictor: Predictor) -> dict[str, int]:
    """The sessions, and the threads if the backend reports them."""
    backend = predictor.backends[0]
    layout = getattr(backend, "layout", None)  # only ONNX Runtime's backend has one
    return {"sessions": backend.sessions} if layout is None else asdict(layout)


def main() -> None:
    """Read the Task from stdin, and write the Start or the error to its `result`."""
    task = Task(**json.load(sys.stdin))
    try:
        result = asdict(measure(task))
    except FashionInferError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    Path(task.result).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
