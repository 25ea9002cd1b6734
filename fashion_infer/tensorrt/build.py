"""Building a TensorRT engine from an ONNX file, in the precision of the file's tensor types."""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fashion_infer.errors import (
    EngineBuildError,
    EngineMismatchError,
    ModelError,
    OutputError,
    PrecisionError,
    missing_extra,
)
from fashion_infer.files import cache_folder, check_place, sha256_of, write_atomically
from fashion_infer.interrupts import interruptible
from fashion_infer.model_spec import INPUT_NAME
from fashion_infer.onnx_file import load_onnx, precision_of
from fashion_infer.precision import NARROW, convert_file
from fashion_infer.tensorrt.api import create, errors_in, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.build_checks import check_precision, check_quantizers
from fashion_infer.tensorrt.engine_file import (
    PORTABLE,
    EngineFile,
    Profile,
    batch_text,
    check_fingerprint,
    check_profiles,
    profiles_for,
    read_engine,
    side_file,
)

try:
    from filelock import FileLock
    from onnx import ModelProto
except ImportError as error:
    raise missing_extra(error.name or "filelock", "rtx", error) from error

Report = Callable[[str, int, int], bool]  # (name of the phase, step, number of steps) -> False to cancel the build

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True)
class BuildOptions:
    """The TensorRT, the batch sizes and the GPU that an engine is built for.

    Attributes:
        flavour: "tensorrt" or "rtx"; None means the first that is installed and supports the GPU.
        profiles: ranges of batch sizes, each (smallest, best, greatest), kept smallest first; see `profiles_for`.
        device: index of the GPU. If it is None, flavour rtx builds for all GPUs that it supports except Turing, and
            flavour tensorrt for the machine's first GPU.
    """

    flavour: str | None = None
    profiles: tuple[Profile, ...] = profiles_for(32)
    device: int | None = None

    def __post_init__(self) -> None:
        # In the order in which a description lists them, since that is how a session numbers the engine's profiles
        object.__setattr__(self, "profiles", check_profiles(self.profiles))


@dataclass(frozen=True)
class Target:
    """The TensorRT that builds and the GPU that it builds for.

    Attributes:
        flavour: "tensorrt" or "rtx".
        trt: the flavour's Python module.
        gpu: name of the GPU, or "any".
        compute_capability: compute capability of the GPU, such as "9.0", or "portable" for any GPU.
        device: index of the GPU, or None for any GPU.
    """

    flavour: str
    trt: Any
    gpu: str
    compute_capability: str
    device: int | None

    @property
    def label(self) -> str:
        """The part of a plan's file name that says where it runs, such as rtx or sm90."""
        return "rtx" if self.flavour == "rtx" else "sm" + self.compute_capability.replace(".", "")

    def current(self) -> AbstractContextManager[None]:
        """A block in which the GPU is the current one. For flavour rtx it does nothing, since that needs no GPU."""
        if self.flavour == "rtx":
            return nullcontext()
        from fashion_infer.tensorrt.cuda import current_gpu

        return current_gpu(self.device or 0)


def build_engine(
    onnx_file: Path,
    plan: Path | None = None,
    options: BuildOptions | None = None,
    *,
    source: Path | None = None,
    report: Report | None = None,
) -> tuple[Path, EngineFile]:
    """Build an engine from an ONNX file of ours and check that it has the precision of the file.

    TensorRT's messages are written to `<plan>.log` and the engine's description to `<plan>.json`. If the build fails,
    only the log is left. Flavour rtx needs no GPU.

    Args:
        onnx_file: an fp32, fp16 or bf16 file, or an int8 file with signed, zero-centred quantizers.
        plan: the file to write, or a folder in which it is named after `source` and the GPU; None means the folder of
            `source`.
        options: the TensorRT, the batch sizes and the GPU to build for.
        source: the file from which the user would build the engine again, if `onnx_file` is a temporary one.
        report: function that is called with the progress and can cancel the build by returning False; if it raises,
            the build ends and the exception is raised here.

    Returns:
        The path of the plan, and the description in the JSON file beside it.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: the file is not one of ours, or has an operator that TensorRT lacks.
        UsageError: there is no such flavour.
        PrecisionError: the file has quantizers that TensorRT would compute wrongly, or TensorRT's network has another
            precision than the file.
        EngineBuildError: TensorRT could not build the engine, or the build was cancelled.
        OutputError: the plan, its description or the log cannot be written.
        DeviceError: flavour tensorrt finds no GPU, or TensorRT has no kernels for the GPU.
        MissingExtraError: TensorRT is not installed.
    """
    options, source = options or BuildOptions(), source or onnx_file
    target = resolve(options)
    model, spec = load_onnx(onnx_file)
    check_quantizers(model)
    precision = precision_of(model)
    if plan is None or plan.is_dir():
        plan = (plan or source.parent) / _plan_name(source, precision, target)
    check_place(plan)  # before minutes of building
    with recording(target.trt) as lines, target.current():
        try:
            data, products = _build(target, model, source, spec.image_size, options, report, lines)
        finally:
            _write(plan.with_name(plan.name + ".log"), "\n".join(lines).encode(errors="backslashreplace"))
    engine_file = EngineFile(
        spec=spec,
        plan_sha256=hashlib.sha256(data).hexdigest(),
        onnx_sha256=sha256_of(source),
        source=source.name,
        flavour=target.flavour,
        tensorrt=target.trt.__version__,
        gpu=target.gpu,
        compute_capability=target.compute_capability,
        precision=precision,
        profiles=options.profiles,
        activation_bytes=_activation_bytes(lines),
        products=products,
    )
    _write(plan, data)
    try:
        _write(side_file(plan), engine_file.to_json().encode())
    except OutputError:
        plan.unlink()
        raise
    return plan, engine_file


def cached_engine(
    source: Path, options: BuildOptions, *, precision: str | None = None, folder: Path | None = None
) -> Path:
    """Return the plan of an ONNX file, which is built on first use and then kept.

    If two processes ask at the same time, one builds and the other waits.

    Args:
        source: an .onnx file of ours.
        options: the TensorRT, the batch sizes and the GPU to build for.
        precision: "fp16" or "bf16" for an fp32 file, which is first converted and must pass the parity check; None
            means the file's own precision.
        folder: folder in which engines are kept; None means `engines` in the user's cache folder.

    Raises:
        EngineBuildError: nothing can be written to the folder.
        FashionInferError: an error of `build_engine` or `convert_file`.
    """
    folder = folder or cache_folder() / "engines"
    target, onnx_sha256 = resolve(options), sha256_of(source)
    facts = [onnx_sha256, target.flavour, target.trt.__version__, target.gpu, target.compute_capability]
    key = hashlib.sha256(json.dumps([*facts, options.profiles, precision]).encode()).hexdigest()[:16]
    plan = folder / f"{source.stem}-{key}.{target.label}.plan"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(plan.with_suffix(".lock")).acquire()  # the system releases it if the process dies
    except OSError as error:
        raise EngineBuildError(
            f"an engine cannot be kept in {folder} ({error.strerror}): build it by fashion-infer export {source} "
            "--engine -o OUT.plan, and give that file"
        ) from error
    with lock:
        if plan.is_file():
            try:
                _, engine_file = read_engine(plan)
                check_fingerprint(plan, engine_file, tensorrt=target.trt.__version__, onnx_sha256=onnx_sha256)
                return plan
            except EngineMismatchError as error:
                logger.warning("a cached engine is built again: %s", error)
        logger.warning("building an engine for %s, this once: %s", source, plan)
        _build_in(precision, source, plan, options)
    return plan


def _build_in(precision: str | None, source: Path, plan: Path, options: BuildOptions) -> None:
    """Build an engine of a file in the requested precision, and log what was built."""
    file_precision = precision_of(load_onnx(source)[0])
    if precision in (None, file_precision):
        _, facts = build_engine(source, plan, options)
    elif precision in NARROW and file_precision == "fp32":
        with TemporaryDirectory(prefix="fashion-infer-") as scratch:
            narrow = Path(scratch) / source.name
            convert_file(source, narrow, precision)
            _, facts = build_engine(narrow, plan, options, source=source)
    else:
        raise PrecisionError(
            f"no {precision} engine can be built from {source}, which is {file_precision}: from an fp32 file fp16 and "
            "bf16 can; int8 needs photos to calibrate on (fashion-infer export --precision int8 --calibration DIR "
            "--engine)"
        )
    slow = '; without tensor cores, which precision="fp16" would use' if facts.precision == "fp32" else ""
    logger.warning(
        "built an engine in %s, by TensorRT %s (%s) for %s, batches %s%s",
        facts.precision,
        facts.tensorrt,
        facts.flavour,
        "any GPU" if facts.compute_capability == PORTABLE else f"compute capability {facts.compute_capability}",
        batch_text(facts.profiles),
        slow,
    )


def resolve(options: BuildOptions) -> Target:
    """Resolve the options to an installed TensorRT and a GPU of this machine.

    Raises:
        MissingExtraError: the flavour of TensorRT is not installed.
        UsageError: there is no such flavour.
        DeviceError: there is no such GPU, or TensorRT has no kernels for it.
    """
    device = options.device
    if device is None:
        flavour, trt = load_tensorrt(options.flavour)
        if flavour == "rtx":
            return Target(flavour, trt, "any", PORTABLE, None)
        device = 0
    from fashion_infer.tensorrt.cuda import find_gpu  # flavour rtx needs no CUDA to build for any GPU

    gpu = find_gpu(device)
    flavour, trt = load_tensorrt(options.flavour, gpu.compute_capability)
    return Target(flavour, trt, gpu.name, "{}.{}".format(*gpu.compute_capability), device)


def _plan_name(source: Path, precision: str, target: Target) -> str:
    is_named = precision == "fp32" or source.stem.endswith(f".{precision}")
    return f"{source.stem}{'' if is_named else f'.{precision}'}.{target.label}.plan"


def _build(
    target: Target,
    model: ModelProto,
    source: Path,
    size: int,
    options: BuildOptions,
    report: Report | None,
    lines: list[str],
) -> tuple[bytes, dict[str, str]]:
    """Parse and build; return the serialized engine and the types of its products. Error messages name `source`."""
    trt = target.trt
    builder = create(trt, "Builder")
    # TensorRT 11 has only strongly typed networks; earlier versions need the flag
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log_of(trt))
    if not parser.parse(model.SerializeToString()):
        failures = [parser.get_error(i) for i in range(parser.num_errors)]
        text = "; ".join(f"{e.node_operator()} ({e.node_name()}): {e.desc()}" for e in failures[:3])
        raise ModelError(f"TensorRT cannot read {source}: {text or errors_in(lines)}")
    products = check_precision(model, network)
    config = _configure(target, builder, size, options)
    with interruptible(second_stops=False) as interrupted:
        monitor = _monitor(trt, lambda *step: not interrupted.is_set() and (report is None or report(*step)))
        config.progress_monitor = monitor
        data = builder.build_serialized_network(network, config)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if monitor.failure is not None:
        raise monitor.failure
    if data is None:
        if monitor.cancelled:
            raise EngineBuildError("the build was cancelled, nothing was written")
        raise EngineBuildError(
            f"TensorRT could not build an engine of {source}: {errors_in(lines)}; where memory is short, a smaller "
            "--batch helps"
        )
    return bytes(data), products


def _configure(target: Target, builder: Any, size: int, options: BuildOptions) -> Any:
    trt = target.trt
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 must not be rounded to TF32; for speed there is fp16
    if target.flavour == "rtx":
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # otherwise no CUDA graph can be captured
        if target.compute_capability != PORTABLE:
            config.num_compute_capabilities = 1
            capability = trt.ComputeCapability.__members__["SM" + target.compute_capability.replace(".", "")]
            config.set_compute_capability(capability, 0)
    for batch in options.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, *((n, size, size, 3) for n in batch))
        config.add_optimization_profile(profile)
    return config


def _monitor(trt: Any, report: Report) -> Any:
    """An IProgressMonitor that calls `report`.

    Its `cancelled` says whether a call of `report` ended the build, and its `failure` is the exception of such a call:
    that of a signal handler, for example. It ends the build too, but cannot pass through TensorRT's code.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}
            self.cancelled = False
            self.failure: BaseException | None = None

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            if not self.cancelled:
                try:
                    self.cancelled = not report(phase, step, self.steps.get(phase, step + 1))
                except BaseException as error:
                    self.cancelled, self.failure = True, error
            return not self.cancelled

    return Monitor()


def _activation_bytes(lines: list[str]) -> int:
    """The largest activation memory of a profile in bytes, from TensorRT's log; 0 if the log does not say.

    The value is only shown to people. Nothing is allocated by it.
    """
    return max(map(int, re.findall(r"Total Activation Memory: (\d+) bytes", "\n".join(lines))), default=0)


def _write(path: Path, data: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
