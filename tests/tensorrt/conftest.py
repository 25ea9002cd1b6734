"""A fixture that puts the stand-in of stand_in.py and stand_in_engine.py in place of CUDA."""

import gc
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def _module(name: str) -> ModuleType:
    """Load a module from the folder of this file, which is not a package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(params=["rtx", "tensorrt"])
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A StandIn in place of CUDA, with `plan`, the path of an engine that it can load, and `spec` and `trt`."""
    real_trt = pytest.importorskip("tensorrt_rtx")
    rt = pytest.importorskip("cuda.bindings.runtime")
    from fashion_infer.model_spec import ModelSpec
    from fashion_infer.tensorrt import cuda, engine
    from fashion_infer.tensorrt.engine_file import EngineFile, side_file

    spec = ModelSpec("vgg16", 8, ("a", "b", "c"), ("x",), ("part",), 5, True, "")
    profiles = ((1, 1, 4), (5, 32, 32))
    parts, engines = _module("stand_in"), _module("stand_in_engine")
    cuda_stand_in = parts.StandIn(rt)
    loaded = engines.LoadedEngine(
        cuda_stand_in, spec, profiles, engines.RtxContext if request.param == "rtx" else engines.Context
    )
    trt = engines.TensorRT(real_trt, cuda_stand_in, loaded)
    plan = tmp_path / "net.plan"
    plan.write_bytes(b"vtrt, a plan")
    sha256 = hashlib.sha256(plan.read_bytes()).hexdigest()
    side_file(plan).write_text(
        EngineFile(
            spec,
            sha256,
            "0" * 64,
            "net.onnx",
            request.param,
            real_trt.__version__,
            "GPU",
            "8.9",
            "fp16",
            profiles,
            0,
            {},
        ).to_json()
    )
    properties = SimpleNamespace(name=b"Stand-in", major=8, minor=9, totalGlobalMem=1 << 30)
    monkeypatch.setattr(cuda, "rt", parts.Runtime(cuda_stand_in, properties))
    monkeypatch.setattr(cuda, "cu", parts.Driver(cuda_stand_in))
    monkeypatch.setattr(engine, "load_tensorrt", lambda flavour, *_: (flavour, trt))
    monkeypatch.setattr(gc, "collect", lambda: 0)  # slow, since the tests have loaded many objects
    cuda._primary_context.cache_clear()
    cuda_stand_in.plan, cuda_stand_in.spec, cuda_stand_in.trt = plan, spec, trt  # type: ignore[attr-defined]
    yield cuda_stand_in
    cuda._primary_context.cache_clear()
