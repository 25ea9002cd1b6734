"""Loading a plan as an engine on a GPU, with checks of the plan; the engine creates execution contexts."""

import dataclasses
import logging
import threading
from pathlib import Path
from typing import Any

from fashion_infer.errors import DeviceError, EngineMismatchError, MissingExtraError, ModelError
from fashion_infer.files import cache_folder, write_atomically
from fashion_infer.model_spec import INPUT_NAME
from fashion_infer.tensorrt.api import create, errors_in, is_out_of_memory, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.cuda import Gpu, check_alive
from fashion_infer.tensorrt.engine_file import EngineFile

logger = logging.getLogger("fashion_infer")


class Engine:
    """A loaded engine and, for TensorRT for RTX, the kernels that it compiles on this machine.

    RTX compiles kernels when a context first runs a batch size. They are kept in the user's cache folder.

    Attributes:
        file: description of the engine.
        trt: the engine's TensorRT module.
        loaded: TensorRT's ICudaEngine.
        lock: lock to hold while a context is created and first run, since all contexts share the compiled kernels.
    """

    def __init__(self, path: Path, trt: Any, plan: bytes, file: EngineFile, gpu: Gpu) -> None:
        """Deserialize a plan. The GPU must be current, and `check_fingerprint` must have passed.

        Args:
            path: path of the plan, for messages.
            trt: TensorRT's Python module.
            plan: the plan's bytes.
            file: description of the engine.
            gpu: the GPU.

        Raises:
            EngineMismatchError: TensorRT cannot load the plan, or it differs from its description.
            ModelError: TensorRT cannot prepare the engine for this machine.
            DeviceError: the engine does not fit in the GPU's memory, or the GPU failed for good.
        """
        self.file, self.trt, self.lock = file, trt, threading.Lock()
        self.loaded: Any = None
        self._configs: list[Any] = []
        self._kernels: Any = None
        self._saved_kernels = b""
        self._runtime = create(trt, "Runtime")
        try:
            self.loaded = _deserialize(path, trt, self._runtime, plan, file)
            if file.flavour == "rtx":
                capability = "{}{}".format(*gpu.compute_capability)
                self._kernel_path = cache_folder() / "kernels" / f"{file.plan_sha256}.sm{capability}.kernels"
                self._kernels = self._new_config().create_runtime_cache()
                self.must(self._kernels is not None, "create_runtime_cache")
                self._load_kernels()
        except BaseException:
            self.close()
            check_alive()
            raise

    def new_context(self) -> Any:
        """Create an execution context that allocates no memory for activations; the caller provides it.

        Any number of contexts may use one profile at the same time. TensorRT 10 made that the default; later versions
        and RTX do not have the switch for it (PROFILE_SHARING_0806) any more.

        Raises:
            MemoryError: there is too little memory for the context.
            ModelError: TensorRT failed for another reason.
        """
        settings: Any = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._kernels is not None:
            config = self._new_config()
            config.set_execution_context_allocation_strategy(settings)
            # LAZY compiles the fast kernels in the background, so a graph captured early would hold the slow ones
            eager = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            self.must(config.set_runtime_cache(self._kernels), "set_runtime_cache")
            self._configs.append(config)
            settings = config
        context = self.loaded.create_execution_context(settings)
        self.must(context is not None, "create_execution_context")
        return context

    def must(self, succeeded: bool, call: str) -> None:
        """Raise an error if a call of TensorRT failed.

        Args:
            succeeded: the call's result.
            call: name of the call, for the message.

        Raises:
            MemoryError: TensorRT's log says that memory ran out. A run needs memory too: it loads kernels, and RTX
                compiles them.
            ModelError: the call failed for another reason, which the message gives.
        """
        if not succeeded:
            reason = log_of(self.trt).reason()
            kind = MemoryError if is_out_of_memory(reason) else ModelError
            raise kind(f"TensorRT refused {call}: {reason}")

    def keep_kernels(self) -> None:
        """Write the compiled kernels to the cache if they changed. If that fails, the next start compiles again."""
        if self._kernels is None:
            return
        memory = self._kernels.serialize()
        if memory is None:
            logger.warning("TensorRT does not give its compiled kernels out, the next start compiles them again")
            return
        data = bytes(memory)
        if data == self._saved_kernels:
            return
        self._saved_kernels = data
        try:
            write_atomically(self._kernel_path, lambda temporary: temporary.write_bytes(data))
        except OSError as error:
            logger.warning("the compiled kernels cannot be kept, the next start compiles them again: %s", error)

    def close(self) -> None:
        """Free the engine's objects, the last created first. The GPU must be current, and no context may be left."""
        self._configs.clear()
        self._kernels = self.loaded = None
        self._runtime = None

    def _new_config(self) -> Any:
        config = self.loaded.create_runtime_config()
        self.must(config is not None, "create_runtime_config")
        return config

    def _load_kernels(self) -> None:
        try:
            self._saved_kernels = self._kernel_path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("the kernels compiled earlier cannot be read, they are compiled again: %s", error)
            return
        if not self._kernels.deserialize(self._saved_kernels):
            logger.warning("%s was not usable: the kernels are compiled again", self._kernel_path)


def tensorrt_of(path: Path, file: EngineFile) -> Any:
    """Import the TensorRT module of a plan's flavour.

    Raises:
        EngineMismatchError: only another flavour is installed; the message has the command that builds for it.
        MissingExtraError: no flavour is installed.
    """
    try:
        return load_tensorrt(file.flavour)[1]
    except MissingExtraError as error:
        installed, _ = load_tensorrt()
        rebuild = dataclasses.replace(file, flavour=installed).rebuild_command
        raise EngineMismatchError(
            f"{path} was built by flavour {file.flavour} of TensorRT, but {installed} is installed: run {rebuild}"
        ) from error


def _deserialize(path: Path, trt: Any, runtime: Any, plan: bytes, file: EngineFile) -> Any:
    with recording(trt) as lines:
        if file.flavour == "rtx":  # only RTX can tell before loading whether the plan runs on the GPU
            _check_validity(path, trt, runtime, plan, file)
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if any(map(is_out_of_memory, lines)):
            raise DeviceError(f"{path} does not fit in the memory of this GPU: {errors_in(lines)}")
        raise EngineMismatchError(f"TensorRT cannot load {path}: {errors_in(lines)}; run {file.rebuild_command}")
    shapes = {
        name: tuple(engine.get_tensor_shape(name))[1:]
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    size = file.spec.image_size
    expected = {INPUT_NAME: (size, size, 3), **file.spec.output_shapes()}
    if shapes != expected or engine.num_optimization_profiles != len(file.profiles):
        raise EngineMismatchError(
            f"{path} has inputs and outputs {shapes} and {engine.num_optimization_profiles} profiles, its description "
            f"says {expected} and {len(file.profiles)}: run {file.rebuild_command}"
        )
    return engine


def _check_validity(path: Path, trt: Any, runtime: Any, plan: bytes, file: EngineFile) -> None:
    validity, diagnostics = runtime.get_engine_validity(plan)
    bits = trt.EngineInvalidityDiagnostics.__members__.items()
    reasons = ", ".join(name for name, bit in bits if diagnostics & int(bit)) or "no reason given"
    if validity == trt.EngineValidity.SUBOPTIMAL:
        logger.warning(
            "%s may be slower on this GPU than one built for it, TensorRT says (%s): %s",
            path,
            reasons,
            file.rebuild_command,
        )
    if validity != trt.EngineValidity.INVALID:
        return
    if "INSUFFICIENT_GPU_MEMORY" in reasons:
        raise DeviceError(f"{path} does not fit in the memory of this GPU, TensorRT says {reasons}")
    rebuild = file.rebuild_command
    if "UNSUPPORTED_CC" in reasons:  # another build by the same flavour would not help
        rebuild = dataclasses.replace(file, flavour="tensorrt").rebuild_command
    raise EngineMismatchError(f"{path} does not run on this GPU, TensorRT says {reasons}: run {rebuild}")
