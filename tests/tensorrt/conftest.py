"""The stand-in of stand_in.py and stand_in_engine.py in place of CUDA, for the tests of the order of its calls."""

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
    """A module that lies beside this file: the tests are no package that it could be imported from."""
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
    known = parts.StandIn(rt)
    loaded = engines.LoadedEngine(
        known, spec, profiles, engines.RtxContext if request.param == "rtx" else engines.Context
    )
    trt = engines.TensorRT(real_trt, loaded)
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
    monkeypatch.setattr(cuda, "rt", parts.Runtime(known, properties))
    monkeypatch.setattr(cuda, "cu", parts.Driver(known))
    monkeypatch.setattr(engine, "load_tensorrt", lambda flavour, *_: (flavour, trt))
    monkeypatch.setattr(gc, "collect", lambda: 0)  # it takes long among all that tests have loaded
    cuda._primary_context.cache_clear()
    known.plan, known.spec, known.trt = plan, spec, trt  # type: ignore[attr-defined]
    yield known
    cuda._primary_context.cache_clear()
