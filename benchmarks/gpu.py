"""Engines on an NVIDIA GPU beside torch and ONNX Runtime, checked before they are timed: `python benchmarks/gpu.py`.

NOT RUN ON A GPU YET. First it lists what the machine has; with no GPU that is all, and the exit code is 3. Then, for
each network (random weights unless checkpoints are given), every contender must give what ONNX Runtime gives on the
CPU, and the engine the same with and without CUDA graphs and from eight threads on two sessions. Only then they are
timed, in turn, pixels in and arrays out, copies through pinned memory included; and the engine's two sessions at once
against one of them. LandmarkPool alone is checked against and timed beside torch's operator (gpu_pooling.py). What
cannot run is listed with its reason, and never timed.

fp16, the precision that matters most, comes first. Each section has a time limit of its own, all together at most 8
minutes. The JSON is written after every step, so that a run that was cut off keeps what it has. `--dry-run` prints the
limits and goes through all sections without a GPU, and without limits. The networks, exports, checks and engines (by
TensorRT for RTX) are real, a stand-in answers for the GPU (gpu_dry.py), and what was not executed is listed.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from gpu_dry import Answers, stand_in_gpu
from gpu_pooling import bench_pooling
from gpu_sections import Results, Section, print_plan
from gpu_timing import (
    COMPILED,
    GRAPH,
    ORT,
    OURS,
    ROUND_SECONDS,
    Pixels,
    Run,
    RunSession,
    check_goals,
    console,
    interleave,
    overlap,
    print_tables,
    summarise,
)
from gpu_torch import count_flops, measure_ceiling, random_network, torch_network, torch_run

from fashion_infer.backends import Outputs
from fashion_infer.bench.environment import provenance
from fashion_infer.errors import FashionInferError, ParityError
from fashion_infer.machine import package_version

PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "cuda-python", "torch", "onnxruntime-gpu", "onnxruntime", "onnx", "timm")
NETWORKS = ("vgg16", "tf_efficientnet_lite0", "mobilenetv4_conv_small")
PICTURES, DRY_PICTURES = 16, 4  # that the outputs are compared on, on a GPU and in a dry run
OVERLAPPED = (32, 64)  # batches that two sessions at once are timed at
POOLINGS = {"vgg16": 512, "tf_efficientnet_lite0": 40}  # channels of the map at stride 8
POOLED_BATCHES = (1, 64)
FP32 = 1e-3  # by how much outputs in fp32 may differ
PROFILES = ((1, 1, 4), (5, 32, 32), (33, 64, 128))  # each batch that is timed has kernels chosen near it


def machine() -> dict[str, Any]:
    """What is here, whether or not it is enough."""
    facts: dict[str, Any] = {"packages": {name: package_version(name) for name in PACKAGES}, "gpus": []}
    try:
        from cuda.bindings import runtime as rt

        from fashion_infer.tensorrt.cuda import find_gpu, gpu_count, ok

        facts["gpus"] = [asdict(find_gpu(index)) for index in range(gpu_count())]
        facts["cuda"] = {"driver": ok(rt.cudaDriverGetVersion()), "runtime": ok(rt.cudaRuntimeGetVersion())}
    except (ImportError, FashionInferError) as error:
        facts["no_gpu"] = str(error)
    return facts


def main(
    checkpoints: Annotated[list[Path] | None, typer.Argument(help="Networks to time; random ones when none.")] = None,
    output: Annotated[Path, typer.Option("-o", help="The JSON to write.")] = Path("benchmarks/results/gpu.json"),
    batches: Annotated[str, typer.Option(help="Batch sizes, the most wanted first.")] = "64,1,8,32,128",
    compiled: Annotated[str, typer.Option(help="Those that torch.compile is timed at: each takes long.")] = "64,1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Go through all of it without a GPU.")] = False,
) -> None:
    """Check, then time; exit code 1 when a check failed, 3 when there is no GPU."""
    results = Results(output, time.monotonic())
    sizes, compile_sizes = parse_sizes(batches), parse_sizes(compiled)
    with TemporaryDirectory(prefix="fashion-infer-gpu-") as folder:
        sections = plan(results, checkpoints or [], Path(folder), sizes, compile_sizes)
        if dry_run:
            dry(results, sections, Path(folder))
            sys.exit(1 if results.failed else 0)
        facts = machine()
        print(json.dumps(facts, indent=1))
        if not facts["gpus"]:
            console.print("no GPU: nothing to measure")
            sys.exit(3)
        results.put(facts, "machine")
        results.put(provenance(), "provenance")
        for section in sections:
            section.run(results)
    results.put(check_goals(results.facts), "goals")
    print_tables(results.facts)
    sys.exit(1 if results.failed else 0)


def plan(
    results: Results, checkpoints: Sequence[Path], folder: Path, batches: Sequence[int], compiled: Sequence[int]
) -> list[Section]:
    """The sections in order, the most wanted first: of each network fp16, then what is compared with it."""
    names = [checkpoint.stem for checkpoint in checkpoints] or list(NETWORKS)
    made = [partial(Path, checkpoint) for checkpoint in checkpoints] or [
        partial(random_network, name, folder) for name in NETWORKS
    ]
    networks = [Network(name, make, folder, results, batches, compiled) for name, make in zip(names, made, strict=True)]
    share = 3 / len(networks)  # the limits are for three networks
    sections = [Section("ceiling", 15, lambda: results.put(measure_ceiling(), "ceiling_tflops"))]
    sections += [Section(f"{n.name}: fp16 checked and timed", 70 * share, n.time_fp16) for n in networks]
    sections += [Section(f"{n.name}: two sessions", 15 * share, n.time_sessions) for n in networks]
    sections += [Section("pooling alone", 30, lambda: time_poolings(results))]
    sections += [Section(f"{n.name}: torch.compile", 35 * share, n.time_compiled) for n in networks]
    sections += [Section(f"{n.name}: fp32 and bf16 checked", 20 * share, n.check_others) for n in networks]
    return sections


def dry(results: Results, sections: Sequence[Section], folder: Path) -> None:
    """Run every section against a stand-in for the GPU; print the plan first, and what was not executed at the end."""
    print_plan(sections, {})
    results.path = results.path.with_suffix(".dry.json")
    results.answers = {}
    results.put("no GPU: a stand-in answered, and the times mean nothing", "dry_run")
    results.put(machine(), "machine")
    results.put(provenance(), "provenance")
    with stand_in_gpu(folder, results.answers) as violations:
        for section in sections:
            section.run(results)
    results.put(check_goals(results.facts), "goals")
    if violations:
        results.put(violations, "missing", "rules of CUDA that were broken")
        results.failed = True
    console.print("[bold]The times below are those of a stand-in and mean nothing.")
    print_tables(results.facts)
    print_plan(sections, results.facts["seconds"])
    print("Not executed, since no GPU is there; up to these lines the code ran:")
    print("- no kernel of an engine ran: outputs were looked up among those of ONNX Runtime on the CPU")
    for step, reason in results.facts.get("not_executed", {}).items():
        print(f"- {step}: {reason}")
    if "missing" in results.facts:
        print("Failed: " + json.dumps(results.facts["missing"], indent=1))


def time_poolings(results: Results) -> None:
    """LandmarkPool alone at the shapes of two networks."""
    for name, channels in POOLINGS.items():
        for batch in POOLED_BATCHES:
            timings = results.attempt(partial(bench_pooling, batch, channels), "pooling", name, str(batch))
            results.put(timings, "pooling", name, str(batch))


@dataclass
class Network:
    """A network and all that is measured of it; what several sections need is made by the first.

    Attributes:
        name: of the checkpoint.
        make: gives its path.
        folder: for files that go with the run.
        results: where the findings go.
        batches: sizes that are timed.
        compiled: those that torch.compile is timed at.
        opened: the engines that are still to be closed.
    """

    name: str
    make: Callable[[], Path]
    folder: Path
    results: Results
    batches: Sequence[int]
    compiled: Sequence[int]
    opened: list[Any] = field(default_factory=list)

    @cached_property
    def checkpoint(self) -> Path:
        """Its path."""
        return self.make()

    @cached_property
    def pictures(self) -> Path:
        """A folder of rendered garments to compare on; few, since all of them run on the CPU several times."""
        from PIL import Image

        from fashion_infer.synthetic.rendering import render

        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(PICTURES if self.results.answers is None else DRY_PICTURES):
            Image.fromarray(render(0, number).image).save(folder / f"{number}.png")
        return folder

    @cached_property
    def fp32(self) -> Path:
        """The exported file."""
        from fashion_infer.export.steps import write_onnx

        return write_onnx(self.checkpoint, self.folder / f"{self.name}.onnx", photos=self.pictures)[0]

    def narrow(self, precision: str) -> Path:
        """The exported file in a precision, converted once."""
        from fashion_infer.export.steps import write_onnx

        path = self.fp32.with_suffix(f".{precision}.onnx")
        if precision == "fp32" or path.is_file():
            return self.fp32 if precision == "fp32" else path
        return write_onnx(self.fp32, path, precision, self.pictures)[0]

    @cached_property
    def images(self) -> Pixels:
        """The pictures, as the network sees them."""
        from fashion_infer.evaluation.parity import read_pictures
        from fashion_infer.onnx_file import load_onnx

        return read_pictures(self.pictures, load_onnx(self.fp32)[1].image_size)

    @cached_property
    def torch_network(self) -> Any:
        """The network in torch, on the GPU."""
        return torch_network(self.checkpoint)

    def torch_run(self, batch: int, *, compiled: bool = False) -> Run:
        """Torch's contender for one size of batch."""
        return torch_run(self.torch_network, batch, compiled=compiled)

    @cached_property
    def expected(self) -> Outputs:
        """What ONNX Runtime gives for them on the CPU."""
        from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend

        outputs = OnnxRuntimeBackend(self.fp32).run(self.images)
        if self.results.answers is not None:
            self.results.answers[self.name] = Answers(self.images, outputs)
        return outputs

    @property
    def round_seconds(self) -> float:
        """How long a contender is timed at a stretch; in a dry run only the few calls that are made at least."""
        return ROUND_SECONDS if self.results.answers is None else 0.0

    @cached_property
    def flops(self) -> float:
        """Floating point operations of one image."""
        flops = count_flops(self.checkpoint)
        self.results.put(flops / 1e9, "gflops_an_image", self.name)
        return flops

    @cached_property
    def ours(self) -> RunSession | None:
        """The fp16 engine with two sessions, once it gives what it should."""
        _ = self.expected  # before the engine, which answers from it in a dry run
        backend: Any = self.results.attempt(lambda: engine(self.plan("fp16")), self.name, OURS)
        if backend is None:
            return None
        self.opened.append(backend)
        if self.checked(OURS, lambda: backend.run) is None:
            return None
        run: RunSession = backend.run
        return run

    def checked(self, contender: str, make: Callable[[], Run]) -> Run | None:
        """A contender that gives what ONNX Runtime gives on the CPU."""
        from fashion_infer.evaluation.parity import compare
        from fashion_infer.precision import TOLERANCES

        def step() -> Run:
            expected, run = self.expected, make()
            tolerance = next((value for precision, value in TOLERANCES.items() if precision in contender), FP32)
            report = compare(run(self.images), expected, self.images.shape[1], tolerance)
            self.results.put(asdict(report), "parity", self.name, contender)
            return run

        run: Run | None = self.results.attempt(step, self.name, contender)
        if run is None and self.results.answers is not None:  # so that what follows is gone through
            return self.results.answers[self.name].run
        return run

    def time_fp16(self) -> None:
        """Our engine, ONNX Runtime's CUDA provider and torch in a CUDA graph, batch by batch."""
        lasting: dict[str, Any] = {
            OURS: self.ours,
            ORT: self.checked(ORT, lambda: onnxruntime_cuda(self.narrow("fp16"))),
        }
        for batch in self.batches:
            self.time_batch(batch, {**lasting, GRAPH: self.checked(GRAPH, partial(self.torch_run, batch))})

    def time_compiled(self) -> None:
        """torch.compile beside our engine."""
        for batch in self.compiled:
            run = self.checked(COMPILED, partial(self.torch_run, batch, compiled=True))
            self.time_batch(batch, {OURS: self.ours, COMPILED: run})

    def time_batch(self, batch: int, runs: dict[str, Any]) -> None:
        """Those that can run, in turn, at one size of batch."""
        able = {contender: run for contender, run in runs.items() if run is not None}
        pixels = np.resize(self.images, (batch, *self.images.shape[1:]))
        rounds = self.results.attempt(lambda: interleave(able, pixels, self.round_seconds), self.name, f"batch {batch}")
        if rounds:
            before = self.results.facts.get("times", {}).get(self.name, {}).get(str(batch), {})
            rows = summarise(rounds, batch, self.flops, self.results.facts.get("ceiling_tflops"))
            self.results.put({**rows, **before} if before else rows, "times", self.name, str(batch))

    def time_sessions(self) -> None:
        """Two sessions at once against one, once they give what one without graphs gives."""
        ours = self.ours
        if ours is None:
            return
        self.results.attempt(lambda: check_sessions(self.plan("fp16"), self.images), self.name, "sessions")
        for batch in OVERLAPPED:
            pixels = np.resize(self.images, (batch, *self.images.shape[1:]))
            gain = self.results.attempt(
                partial(overlap, ours, pixels, self.round_seconds), self.name, f"two sessions at {batch}"
            )
            self.results.put(gain, "two_sessions", self.name, str(batch))

    def check_others(self) -> None:
        """The engines in the other precisions, for parity alone; then every engine of the network is closed."""
        for precision in ("fp32", "bf16"):
            self.checked(f"tensorrt {precision}", partial(self.opened_engine, precision))
        while self.opened:
            self.opened.pop().close()

    def opened_engine(self, precision: str) -> Run:
        """An engine with one session, which `check_others` closes."""
        backend = engine(self.plan(precision), sessions=1)
        self.opened.append(backend)
        run: Run = backend.run
        return run

    def plan(self, precision: str) -> Path:
        """The engine in a precision, built once for the first GPU; the build ends when the section's time is up."""
        from fashion_infer.tensorrt.build import BuildOptions, build_engine

        source = self.narrow(precision)
        built = sorted(source.parent.glob(f"{source.stem}.[rs]*.plan"))
        if built:
            return built[0]
        options = BuildOptions(profiles=PROFILES, device=0)
        return build_engine(source, None, options, report=lambda *_: not self.results.late())[0]


def engine(plan: Path, sessions: int = 2) -> Any:
    """Our engine with CUDA graphs."""
    from fashion_infer.tensorrt.session import TensorRTBackend

    return TensorRTBackend(plan, sessions=sessions)


def check_sessions(plan: Path, images: Pixels) -> None:
    """Graphs, two sessions and eight threads give what one session without graphs gives, up to the batches' rounding.

    Raises:
        ParityError: they do not.
    """
    from fashion_infer import Predictor
    from fashion_infer.tensorrt.session import TensorRTBackend

    alone = TensorRTBackend(plan, sessions=1, graphs=False)
    plain = {count: alone.run(images[:count]) for count in (1, 7, len(images))}
    alone.close()
    with Predictor(plan, sessions=2) as predictor, ThreadPoolExecutor(8) as threads:
        for count, expected in plain.items():
            for outputs in threads.map(lambda _, n=count: predictor.run(images[:n]), range(64)):
                if not all(np.allclose(values, expected[name], atol=0.01) for name, values in outputs.items()):
                    raise ParityError(f"with graphs or several threads the engine answers otherwise at batch {count}")


def onnxruntime_cuda(path: Path) -> Run:
    """ONNX Runtime's CUDA provider on the same fp16 file."""
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, device="cuda:0").run


def parse_sizes(text: str) -> list[int]:
    """Batch sizes from "64,1,8"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of batch sizes such as 64,1,8")
    return [int(part) for part in parts]


if __name__ == "__main__":
    typer.run(main)
