"""What answers in place of a GPU in `gpu.py --dry-run`: a part of gpu.py.

The recording stand-in of the tests takes the place of CUDA and of TensorRT's runtime. It checks the order of the calls
and computes nothing: an engine "computes" by looking each picture up among those that ONNX Runtime has answered on the
CPU. So a dry run shows that the benchmark's own code works. Its times mean nothing.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from gpu_timing import Pixels

from fashion_infer.backends import Outputs
from fashion_infer.errors import DeviceError, MissingExtraError

ROOT = Path(__file__).parents[1]
NEEDS_GPU = ("NVIDIA", "CUDA")  # words in the errors of torch where there is no driver


class Answers:
    """A network's outputs for pictures that it was asked about before, by their pixels."""

    def __init__(self, images: Pixels, outputs: Outputs) -> None:
        """Keep uint8 [N, S, S, 3] pictures and the float32 [N, ...] outputs that belong to them."""
        self._rows = {image.tobytes(): row for row, image in enumerate(images)}
        self._outputs = outputs

    def run(self, pixels: Pixels, session: int = 0) -> Outputs:
        """The outputs of pictures, [N, ...]. A picture that was not kept, has those of the first."""
        rows = [self._rows.get(image.tobytes(), 0) for image in pixels]
        return {name: values[rows] for name, values in self._outputs.items()}


def stopped_at(error: BaseException) -> str | None:
    """The line of the project at which a step stopped for want of a GPU; None for an error of another kind."""
    if not (isinstance(error, (DeviceError, MissingExtraError)) or any(word in str(error) for word in NEEDS_GPU)):
        return None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    own = [frame for frame in frames if ".venv" not in frame.filename]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, {own[-1].line}" if own else "outside the project"


@contextmanager
def stand_in_gpu(folder: Path, answers: dict[str, Answers]) -> Iterator[list[str]]:
    """Put the stand-in in the place of CUDA and TensorRT's runtime; building engines stays real.

    Args:
        folder: where the engines are built.
        answers: what engines answer, by the name of the network; filled while the block runs.

    Yields:
        The rules that were broken, in words.

    Raises:
        MissingExtraError: cuda-python or TensorRT is not installed.
    """
    from fashion_infer.tensorrt import cuda, engine
    from fashion_infer.tensorrt.api import load_tensorrt

    sys.path.insert(0, str(ROOT / "tests" / "tensorrt"))
    from stand_in import Driver, Runtime, StandIn  # type: ignore[import-not-found]

    sys.path.pop(0)
    flavour, real = load_tensorrt()
    gpu = StandIn(cuda.rt)
    properties = SimpleNamespace(name=b"stand-in, no GPU", major=8, minor=9, totalGlobalMem=1 << 40)
    before = cuda.rt, cuda.cu, engine.load_tensorrt
    places: Any = cuda, engine  # modules, whose names are replaced for a while
    places[0].rt, places[0].cu = Runtime(gpu, properties), Driver(gpu)
    module = _tensorrt(real, gpu, folder, answers)
    places[1].load_tensorrt = lambda *_: (flavour, module)
    cuda._primary_context.cache_clear()
    try:
        yield gpu.violations
    finally:
        places[0].rt, places[0].cu, places[1].load_tensorrt = before
        cuda._primary_context.cache_clear()


def _tensorrt(real: Any, gpu: Any, folder: Path, answers: dict[str, Answers]) -> Any:
    """TensorRT's module, whose runtime loads the plans of the folder into engines that look their answers up."""
    sys.path.insert(0, str(ROOT / "tests" / "tensorrt"))
    from stand_in_engine import LoadedEngine, RtxContext, TensorRT  # type: ignore[import-not-found]

    sys.path.pop(0)
    from fashion_infer.tensorrt.engine_file import EngineFile

    class Engine(LoadedEngine):  # type: ignore[misc]
        def __init__(self, facts: EngineFile) -> None:
            super().__init__(gpu, facts.spec, facts.profiles, RtxContext)
            stem = facts.source.removesuffix(".onnx").removesuffix(".fp16").removesuffix(".bf16")
            self._answers = answers[stem]

        def compute(self, arrays: dict[str, np.ndarray]) -> None:
            for name, values in self._answers.run(arrays["images"]).items():
                arrays[name][...] = values

    class Module(TensorRT):  # type: ignore[misc]
        def load(self, plan: bytes) -> Engine:
            sha256 = hashlib.sha256(plan).hexdigest()
            files = [EngineFile.from_json(path.read_text()) for path in folder.glob("*.plan.json")]
            return Engine(next(facts for facts in files if facts.plan_sha256 == sha256))

    return Module(real, gpu, None)
