"""Engines on an NVIDIA GPU beside torch and ONNX Runtime, checked before they are timed: `python benchmarks/gpu.py`.

NOT RUN ON A GPU YET. First it lists what the machine has; with no GPU that is all, and the exit code is 3. Then, for
each network (random weights unless checkpoints are given), every contender must give what ONNX Runtime gives on the
CPU, and the engine the same with and without CUDA graphs and from eight threads on two sessions. Only then they are
timed, in turn, pixels in and arrays out, copies included; and the engine's two sessions at once against one of them.
LandmarkPool alone is checked against and timed beside torch's operator (gpu_pooling.py). What cannot run is listed with
its reason, and never timed. The JSON is written after every step, so that a run that was cut off keeps what it has.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median, stdev
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from gpu_pooling import bench_pooling
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from fashion_infer.backends import Outputs
from fashion_infer.errors import FashionInferError, ParityError
from fashion_infer.files import write_atomically
from fashion_infer.machine import package_version

Pixels = NDArray[np.uint8]
Run = Callable[[Pixels], Outputs]  # uint8 [N, S, S, 3] on the host -> outputs on the host

PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "cuda-python", "torch", "onnxruntime-gpu", "onnxruntime", "onnx", "timm")
NETWORKS = ("vgg16", "tf_efficientnet_lite0", "mobilenetv3_large_100")
IMAGE_SIZE = 224
ROUNDS, ROUND_SECONDS = 5, 0.25
OVERLAPPED = (32, 64)  # batches that two sessions at once are timed at
POOLINGS = {"vgg16": 512, "tf_efficientnet_lite0": 40}  # channels of the map at stride 8
POOLED_BATCHES = (1, 64)
STUDENT_T = 2.776  # of a 95 % interval over five rounds
TOLERANCES = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.08}
OURS, GRAPH, COMPILED, ORT = "tensorrt fp16", "torch fp16 graph", "torch fp16 compiled", "onnxruntime cuda fp16"
console = Console(stderr=True)


@dataclass
class Results:
    """What a run finds out.

    Attributes:
        path: of the JSON, written after every step.
        deadline: on the monotonic clock; nothing is begun after it.
        facts: what is in the JSON.
        failed: whether a check failed.
    """

    path: Path
    deadline: float
    facts: dict[str, Any] = field(default_factory=dict)
    failed: bool = False

    def put(self, value: Any, *keys: str) -> None:
        """Set a value under nested keys, and write the file."""
        place = self.facts
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        write_atomically(self.path, lambda temporary: temporary.write_text(json.dumps(self.facts, indent=1)))

    def attempt(self, step: Callable[[], Any], *keys: str) -> Any:
        """What a step gives; where it fails or is too late None, and the reason under "missing" and the keys."""
        if self.late():
            self.put("not begun: the time was up", "missing", *keys)
            return None
        console.print("[dim]" + " / ".join(keys))
        try:
            return step()
        except Exception as error:  # of torch, ONNX Runtime, CUDA: a contender that cannot run must not stop the others
            self.put(f"{type(error).__name__}: {error}"[:500], "missing", *keys)
            self.failed |= isinstance(error, ParityError)
            return None

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline


def machine() -> dict[str, Any]:
    """What is here, whether or not it is enough."""
    facts: dict[str, Any] = {"packages": {name: package_version(name) for name in PACKAGES}, "gpus": []}
    try:
        from cuda.bindings import runtime as rt

        from fashion_infer.tensorrt.cuda import ok, use_gpu

        facts["gpus"] = [asdict(use_gpu(index)) for index in range(ok(rt.cudaGetDeviceCount()))]
        use_gpu(0)  # the current one again
        facts["cuda"] = {"driver": ok(rt.cudaDriverGetVersion()), "runtime": ok(rt.cudaRuntimeGetVersion())}
    except (ImportError, FashionInferError) as error:
        facts["no_gpu"] = str(error)
    return facts


def main(
    checkpoints: Annotated[list[Path] | None, typer.Argument(help="Networks to time; random ones when none.")] = None,
    output: Annotated[Path, typer.Option("-o", help="The JSON to write.")] = Path("benchmarks/results/gpu.json"),
    batches: Annotated[str, typer.Option(help="Batch sizes, the most wanted first.")] = "64,1,8,32,128",
    compiled: Annotated[str, typer.Option(help="Those that torch.compile is timed at: each takes long.")] = "64,1",
    minutes: Annotated[
        float, typer.Option(help="After these nothing new is begun; what has begun takes up to two more.")
    ] = 6.0,
) -> None:
    """Check, then time; exit code 1 when a check failed, 3 when there is no GPU."""
    results = Results(output, time.monotonic() + 60 * minutes)
    sizes, compile_sizes = parse_sizes(batches), parse_sizes(compiled)
    here = machine()
    print(json.dumps(here, indent=1))
    if not here["gpus"]:
        console.print("no GPU: nothing to measure")
        sys.exit(3)
    results.put(here, "machine")
    results.put(sys.argv, "command")
    results.put(results.attempt(measure_ceiling, "ceiling"), "ceiling_tflops")
    for name, channels in POOLINGS.items():
        for batch in POOLED_BATCHES:
            found = results.attempt(lambda n=batch, c=channels: bench_pooling(n, c), "pooling", name, str(batch))  # type: ignore[misc]
            results.put(found, "pooling", name, str(batch))
    with TemporaryDirectory(prefix="fashion-infer-gpu-") as folder:
        for checkpoint in checkpoints or [random_network(name, Path(folder)) for name in NETWORKS]:
            bench_network(results, checkpoint, Path(folder), sizes, compile_sizes)
    results.put(check_goals(results.facts), "goals")
    print_tables(results.facts)
    sys.exit(1 if results.failed else 0)


def bench_network(
    results: Results, checkpoint: Path, folder: Path, batches: Sequence[int], compiled: Sequence[int]
) -> None:
    """Check every contender, then time those that passed, batch by batch."""
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
    from fashion_infer.evaluation.parity import compare, read_pictures
    from fashion_infer.export.steps import write_onnx

    name = checkpoint.stem
    if results.late():
        results.put("the time was up", "missing", name)
        return
    fp32, _ = write_onnx(checkpoint, folder / f"{name}.onnx")
    reference = OnnxRuntimeBackend(fp32)
    images = read_pictures(None, reference.spec.image_size)
    expected = reference.run(images)

    def checked(contender: str, make: Callable[[], Run]) -> Run | None:
        """A contender that gives what ONNX Runtime gives on the CPU."""

        def step() -> Run:
            run = make()
            tolerance = next(value for precision, value in TOLERANCES.items() if precision in contender)
            report = compare(run(images), expected, images.shape[1], tolerance)
            results.put(asdict(report), "parity", name, contender)
            return run

        run: Run | None = results.attempt(step, name, contender)
        return run

    for precision in ("fp32", "bf16"):  # fp16 is checked below, and kept
        if not results.late():
            checked(f"tensorrt {precision}", lambda p=precision: engine(fp32, p, max(batches)))  # type: ignore[misc]
    ours = checked(OURS, lambda: engine(fp32, "fp16", max(batches)))
    if ours is not None:
        results.attempt(lambda: check_sessions(fp32, images), name, "sessions")
    lasting = {OURS: ours, ORT: checked(ORT, lambda: onnxruntime_cuda(fp32))}
    flops = count_flops(checkpoint)
    results.put(flops / 1e9, "gflops_an_image", name)
    for batch in batches:
        if results.late():
            results.put("the time was up", "missing", name, f"batch {batch}")
            continue
        runs = {**lasting, GRAPH: checked(GRAPH, lambda n=batch: torch_run(checkpoint, n, compiled=False))}  # type: ignore[misc]
        if batch in compiled:
            runs[COMPILED] = checked(COMPILED, lambda n=batch: torch_run(checkpoint, n, compiled=True))  # type: ignore[misc]
        able = {contender: run for contender, run in runs.items() if run is not None}
        rounds = interleave(able, np.resize(images, (batch, *images.shape[1:])))
        results.put(summarise(rounds, batch, flops, results.facts["ceiling_tflops"]), "times", name, str(batch))
        if batch in OVERLAPPED and ours is not None:
            pixels = np.resize(images, (batch, *images.shape[1:]))
            found = results.attempt(lambda run=ours, x=pixels: overlap(run, x), name, f"two sessions at {batch}")  # type: ignore[misc]
            results.put(found, "two_sessions", name, str(batch))


def engine(fp32: Path, precision: str, greatest: int) -> Run:
    """Our engine with two sessions and CUDA graphs."""
    from fashion_infer.tensorrt.session import TensorRTBackend

    return TensorRTBackend(_plan(fp32, precision, greatest), sessions=2).run


def check_sessions(fp32: Path, images: Pixels) -> None:
    """Graphs, two sessions and eight threads give the very arrays that one session without graphs gives."""
    from fashion_infer.tensorrt.session import TensorRTBackend

    plan = _plan(fp32, "fp16", 0)
    for count in (1, 7, len(images)):
        plain = TensorRTBackend(plan, sessions=1, graphs=False).run(images[:count])
        graphs = TensorRTBackend(plan, sessions=2)
        with ThreadPoolExecutor(8) as pool:
            for outputs in pool.map(lambda _: graphs.run(images[:count]), range(64)):  # noqa: B023 - drained in the loop
                if not all(np.array_equal(values, plain[name]) for name, values in outputs.items()):
                    raise ParityError(
                        f"with graphs or several threads the engine gives something else at batch {count}"
                    )


def overlap(run: Run, pixels: Pixels, seconds: float = ROUND_SECONDS) -> dict[str, float]:
    """Images a second from one thread, which keeps one session busy, and from two, which keep two; in turn.

    Returns:
        The medians of both, and two as a multiple of one with a 95 % interval.
    """

    def rate(threads: int) -> float:
        begin = time.perf_counter()

        def work(_: int) -> int:
            calls = 0
            while time.perf_counter() - begin < seconds or calls < 5:
                run(pixels)
                calls += 1
            return calls

        calls = sum(pool.map(work, range(threads)))
        return calls * len(pixels) / (time.perf_counter() - begin)

    with ThreadPoolExecutor(2) as pool:
        rate(2)  # both threads have met the GPU
        rounds = [(rate(1), rate(2)) for _ in range(ROUNDS)]
    gains = [two / one for one, two in rounds]
    return {
        "one_images_per_second": median(one for one, _ in rounds),
        "two_images_per_second": median(two for _, two in rounds),
        "gain": fmean(gains),
        "plus_minus": STUDENT_T * stdev(gains) / ROUNDS**0.5,
    }


def onnxruntime_cuda(fp32: Path) -> Run:
    """ONNX Runtime's CUDA provider on the same fp16 file."""
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(_narrow(fp32, "fp16"), device="cuda:0").run


def torch_run(checkpoint: Path, batch: int, compiled: bool) -> Run:
    """Torch in fp16 and channels_last for one size of batch: in a CUDA graph, or compiled with max-autotune."""
    import torch

    from fashion_infer.model_spec import OUTPUT_NAMES
    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.model import Deployed

    network, spec = load_checkpoint(checkpoint)
    mean, std = network.mean.cuda(), network.std.cuda()
    network = network.cuda().half().to(memory_format=torch.channels_last)
    network.mean, network.std = mean, std  # pixels are normalised in float32, as in the engine
    network.backbone.register_forward_pre_hook(lambda _, inputs: tuple(x.half() for x in inputs))
    deployed: Any = Deployed(network, spec.temperature).eval()
    host = torch.zeros(batch, spec.image_size, spec.image_size, 3, dtype=torch.uint8).pin_memory()
    device = host.cuda()
    with torch.inference_mode():
        if compiled:  # max-autotune makes graphs of its own
            deployed = torch.compile(deployed, mode="max-autotune", dynamic=False)
            for _ in range(3):
                deployed(device)
        else:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # a capture must not hold the work of first runs
                for _ in range(3):
                    deployed(device)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = deployed(device)

    @torch.inference_mode()
    def once(pixels: Pixels) -> list[NDArray[np.float32]]:
        host[: len(pixels)].numpy()[...] = pixels
        device.copy_(host, non_blocking=True)
        if compiled:
            outputs = deployed(device)
        else:
            graph.replay()
            outputs = captured
        return [output[: len(pixels)].cpu().numpy() for output in outputs]

    def run(pixels: Pixels) -> Outputs:
        parts = [once(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        return {
            name: np.concatenate(values) for name, values in zip(OUTPUT_NAMES, zip(*parts, strict=True), strict=True)
        }

    return run


def measure_ceiling() -> float:
    """TFLOP/s of a large fp16 matrix product, the best of many: what a network is measured against."""
    import torch

    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.float16) for _ in range(2))
    seconds = []
    for _ in range(30):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return float(2 * side**3 / min(seconds) / 1e12)


def count_flops(checkpoint: Path) -> float:
    """Floating point operations of one image, two for each multiplication with its addition."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fashion_infer.training.checkpoint import load_checkpoint

    network, spec = load_checkpoint(checkpoint)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, spec.image_size, spec.image_size, 3, dtype=torch.uint8))
    return float(counter.get_total_flops())


def random_network(backbone: str, folder: Path) -> Path:
    """A checkpoint of the paper's sizes with random weights: as fast as a trained one."""
    import torch

    from fashion_infer.model_spec import ModelSpec
    from fashion_infer.training.checkpoint import save_checkpoint
    from fashion_infer.training.model import Architecture, FashionNet

    torch.manual_seed(0)
    network = FashionNet(Architecture(backbone, IMAGE_SIZE, 50, 1000))
    categories, attributes = (
        tuple(f"{kind}{i}" for i in range(n)) for kind, n in (("category", 50), ("attribute", 1000))
    )
    path = folder / f"{backbone}.safetensors"
    save_checkpoint(
        path, network, ModelSpec(backbone, IMAGE_SIZE, categories, attributes, ("none",) * 1000, 256, False, "")
    )
    return path


def interleave(runs: Mapping[str, Run], pixels: Pixels, seconds: float = ROUND_SECONDS) -> dict[str, list[float]]:
    """Milliseconds a call, the median of each round; the contenders take turns, so that all meet the same moments."""
    rounds: dict[str, list[float]] = {contender: [] for contender in runs}
    for run in runs.values():
        run(pixels)
    for _ in range(ROUNDS):
        for contender, run in runs.items():
            taken: list[float] = []
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds or len(taken) < 5:
                before = time.perf_counter()
                run(pixels)
                taken.append((time.perf_counter() - before) * 1e3)
            rounds[contender].append(median(taken))
    return rounds


def summarise(
    rounds: Mapping[str, Sequence[float]], batch: int, flops: float, ceiling: float | None
) -> dict[str, dict[str, Any]]:
    """Each contender's median, rate, share of the ceiling, and its time as a multiple of ours with a 95 % interval.

    Args:
        rounds: milliseconds a call, five of each contender, taken in turn.
        batch: images a call.
        flops: of one image.
        ceiling: TFLOP/s that the GPU was measured at; None where it was not.
    """
    summary: dict[str, dict[str, Any]] = {}
    for contender, times in rounds.items():
        milliseconds = median(times)
        row: dict[str, Any] = {
            "p50_ms": milliseconds,
            "images_per_second": batch / milliseconds * 1e3,
            "rounds": [*times],
        }
        if ceiling is not None:
            row["share_of_ceiling"] = flops * batch / milliseconds * 1e3 / (ceiling * 1e12)
        if OURS in rounds and contender != OURS:
            ratios = [theirs / ours for theirs, ours in zip(times, rounds[OURS], strict=True)]
            row["times_ours"] = fmean(ratios)
            row["plus_minus"] = STUDENT_T * stdev(ratios) / len(ratios) ** 0.5
        summary[contender] = row
    return summary


def check_goals(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What was aimed at for the paper's network, and what was reached; None where it was not measured."""
    times = facts.get("times", {}).get("vgg16", {})
    large, single = times.get("64", {}), times.get("1", {})
    against_graph = single.get(GRAPH, {}).get("times_ours")
    return {
        "share of the ceiling at batch 64, at least 0.6": large.get(OURS, {}).get("share_of_ceiling"),
        "rate at batch 64 against torch.compile, at least 1.5": large.get(COMPILED, {}).get("times_ours"),
        "time at batch 1 against torch with a graph, at most 0.7": against_graph and 1 / against_graph,
    }


def print_tables(facts: Mapping[str, Any]) -> None:
    """One table a network, what else was timed, and the goals."""
    for name, batches in facts.get("times", {}).items():
        table = Table("batch", "contender", "p50 ms", "images/s", "of ceiling", "times ours", title=name)
        for batch, rows in batches.items():
            for contender, row in rows.items():
                share = f"{row['share_of_ceiling']:.0%}" if "share_of_ceiling" in row else "-"
                ratio = f"{row['times_ours']:.2f} ± {row['plus_minus']:.2f}" if "times_ours" in row else "-"
                table.add_row(batch, contender, f"{row['p50_ms']:.3f}", f"{row['images_per_second']:.0f}", share, ratio)
        console.print(table)
    for part in ("two_sessions", "pooling"):
        if part in facts:
            console.print(part, facts[part])
    for goal, reached in facts["goals"].items():
        console.print(f"{goal}: {'not measured' if reached is None else f'{reached:.2f}'}")


def parse_sizes(text: str) -> list[int]:
    """Batch sizes from "64,1,8"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of batch sizes such as 64,1,8")
    return [int(part) for part in parts]


def _narrow(fp32: Path, precision: str) -> Path:
    """The file in a precision, converted once."""
    from fashion_infer.export.steps import write_onnx

    path = fp32.with_suffix(f".{precision}.onnx")
    if precision == "fp32" or path.is_file():
        return fp32 if precision == "fp32" else path
    return write_onnx(fp32, path, precision)[0]


def _plan(fp32: Path, precision: str, greatest: int) -> Path:
    """The engine of a file in a precision, built once."""
    from fashion_infer.tensorrt.build import BuildOptions, build_engine

    source = _narrow(fp32, precision)
    built = sorted(source.parent.glob(f"{source.stem}.[rs]*.plan"))
    return built[0] if built else build_engine(source, None, BuildOptions(batch=(1, min(32, greatest), greatest)))[0]


if __name__ == "__main__":
    typer.run(main)
