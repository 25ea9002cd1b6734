"""Building engines with TensorRT for RTX, which needs no GPU."""

import hashlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from fashion_infer.errors import (
    EngineBuildError,
    EngineMismatchError,
    MissingExtraError,
    ModelError,
    OutputError,
    ParityError,
    PrecisionError,
    UsageError,
)
from fashion_infer.export.inspect import inspect_file
from fashion_infer.files import sha256_of
from fashion_infer.model_spec import METADATA_KEY, ModelSpec
from fashion_infer.onnx_file import load_onnx
from fashion_infer.precision import to_precision
from fashion_infer.tensorrt.build import BuildOptions, build_engine, cached_engine
from fashion_infer.tensorrt.engine_file import EngineFile, read_engine, side_file

pytest.importorskip("tensorrt_rtx")

SMALL = BuildOptions(flavour="rtx", profiles=((1, 2, 4),))
SPEC = ModelSpec("vgg16", 8, ("a", "b", "c", "d"), ("x",), ("part",), 4, True, "")


@pytest.fixture(scope="module")
def engine(onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EngineFile]:
    return build_engine(onnx_model, tmp_path_factory.mktemp("engine") / "net.plan", SMALL)


def _save(body: str, path: Path) -> Path:
    """Save a small network with the specification of a FashionNet; the builder ignores the names of its outputs."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {body}')
    model.metadata_props.add(key=METADATA_KEY, value=SPEC.to_json())
    onnx.save_model(model, path)
    return path


def test_what_is_known_about_an_engine(engine: tuple[Path, EngineFile], onnx_model: Path) -> None:
    plan, facts = engine
    import tensorrt_rtx

    assert read_engine(plan) == (plan.read_bytes(), facts)
    assert facts.spec == load_onnx(onnx_model)[1]
    assert facts.plan_sha256 == sha256_of(plan)
    assert facts.onnx_sha256 == sha256_of(onnx_model)
    assert facts.source == onnx_model.name
    assert (facts.flavour, facts.tensorrt) == ("rtx", tensorrt_rtx.__version__)
    assert (facts.gpu, facts.compute_capability) == ("any", "portable")
    assert (facts.precision, facts.profiles) == ("fp32", ((1, 2, 4),))
    assert facts.activation_bytes > 0
    assert set(facts.products.values()) == {"Float"}
    assert {path.name for path in plan.parent.iterdir()} == {"net.plan", "net.plan.json", "net.plan.log"}


def test_inspect_says_what_is_known(engine: tuple[Path, EngineFile], tmp_path: Path) -> None:
    plan, facts = engine
    report = inspect_file(plan)
    assert report["kind"] == "TensorRT engine"
    assert (report["sha256"], report["precision"], report["tensorrt"]) == (facts.plan_sha256, "fp32", facts.tensorrt)
    json.dumps(report)
    with pytest.raises(EngineMismatchError, match="is missing"):
        inspect_file(Path(shutil.copy(plan, tmp_path)))


def test_the_plan_is_plain(engine: tuple[Path, EngineFile]) -> None:
    plan, _ = engine
    assert plan.read_bytes()[:4] == b"vtrt"  # what trtexec and Triton look for


def test_the_log_holds_tensorrts_own_words(engine: tuple[Path, EngineFile]) -> None:
    log = Path(f"{engine[0]}.log").read_text()
    assert "INFO: Total Activation Memory" in log


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(
    "backbone", ["vgg16", "tf_efficientnet_lite0", "mobilenetv4_conv_small", "resnet50", "convnext_atto"]
)
def test_every_backbone_in_every_precision(
    onnx_model: Path, light_models: Callable[[str], Path], tmp_path: Path, backbone: str, precision: str
) -> None:
    source = onnx_model if backbone == "vgg16" else light_models(backbone)
    model, _ = load_onnx(source)
    if precision != "fp32":
        model = to_precision(model, precision)
    path = tmp_path / "net.onnx"
    onnx.save_model(model, path)
    _, facts = build_engine(path, None, SMALL)
    assert facts.precision == precision
    kind = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16"}[precision]
    wide = [node for node, product in facts.products.items() if product != kind]
    assert set(facts.products.values()) <= {kind, "Float"}
    assert len(wide) <= 4 < len(facts.products)  # the last products before landmarks and visibility


def test_int8_is_found_in_the_engine(tmp_path: Path) -> None:
    weights = ", ".join(str(i % 7 - 3) for i in range(4 * 3 * 9))
    source = _save(
        f"""net (uint8[N, 8, 8, 3] images) => (float[N, 4, 8, 8] y)
        <float s = {{0.05}}, int8 z = {{0}}, float[4] ws = {{0.1, 0.2, 0.1, 0.2}}, int8[4] wz = {{0, 0, 0, 0}},
         int8[4, 3, 3, 3] w = {{{weights}}}> {{
            pixels = Cast <to = 1> (images)
            x = Transpose <perm = [0, 3, 1, 2]> (pixels)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            v = DequantizeLinear <axis = 0> (w, ws, wz)
            c = Conv <pads = [1, 1, 1, 1]> (d, v)
            y = Relu (c)
        }}""",
        tmp_path / "net.onnx",
    )
    plan, facts = build_engine(source, None, SMALL)
    assert plan.name == "net.int8.rtx.plan"
    assert facts.precision == "int8"
    assert facts.products == {"node_of_c": "Int8"}


def test_unsigned_quantizers_are_refused_before_the_build(tmp_path: Path) -> None:
    source = _save(
        """net (uint8[N, 8, 8, 3] images) => (float[N, 8, 8, 3] y) <float s = {0.05}, uint8 z = {0}>
        { x = Cast <to = 1> (images)  q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }""",
        tmp_path / "net.onnx",
    )
    with pytest.raises(PrecisionError, match="UINT8"):
        build_engine(source, None, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(
    ("name", "precision", "plan"),
    [
        ("net.onnx", "fp32", "net.rtx.plan"),
        ("net.onnx", "fp16", "net.fp16.rtx.plan"),
        ("net.fp16.onnx", "fp16", "net.fp16.rtx.plan"),
    ],
)
def test_plans_are_named_after_source_precision_and_target(
    onnx_model: Path, tmp_path: Path, name: str, precision: str, plan: str
) -> None:
    model, _ = load_onnx(onnx_model)
    onnx.save_model(model if precision == "fp32" else to_precision(model, precision), tmp_path / "scratch")
    source = tmp_path / name
    shutil.copy(onnx_model, source)
    built, facts = build_engine(tmp_path / "scratch", None, SMALL, source=source)
    assert built == tmp_path / plan
    assert facts.onnx_sha256 == sha256_of(source)
    assert facts.rebuild_command == (
        f"fashion-infer export {name} --engine --flavour rtx --precision {precision} --batch 1:2:4"
    )


def test_an_operator_that_tensorrt_lacks_is_named(tmp_path: Path) -> None:
    source = _save(
        """net (uint8[N, 8, 8, 3] images) => (float[N, 8, 8, 3] y)
        { x = Cast <to = 1> (images)  y = NoSuchOperator (x) }""",
        tmp_path / "net.onnx",
    )
    with pytest.raises(ModelError, match=r"TensorRT cannot read .*net.onnx: NoSuchOperator"):
        build_engine(source, None, SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", "net.rtx.plan.log"}


def test_hard_swish_in_bf16_is_refused_by_name(tmp_path: Path) -> None:
    """The MobileNetV3 backbones use it. The error names the user's file, not the temporary file of lower precision."""
    source = _save(
        """net (uint8[N, 8, 8, 3] images) => (bfloat16[N, 8, 8, 3] y)
        { x = Cast <to = 16> (images)  y = HardSwish (x) }""",
        tmp_path / "temporary.onnx",
    )
    with pytest.raises(ModelError, match=r"TensorRT cannot read .*/net.onnx: HardSwish .*The current type = BF16"):
        build_engine(source, None, SMALL, source=tmp_path / "net.onnx")


def test_a_cancelled_build_leaves_its_log_alone(onnx_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def report(phase: str, step: int, steps: int) -> bool:
        seen.append((phase, step, steps))
        return len(seen) < 3

    with pytest.raises(EngineBuildError, match="the build was cancelled"):
        build_engine(onnx_model, tmp_path / "net.plan", SMALL, report=report)
    assert [path.name for path in tmp_path.iterdir()] == ["net.plan.log"]
    assert all(0 <= step < steps for _, step, steps in seen)


def test_an_exception_ends_the_build_and_reaches_the_caller(onnx_model: Path, tmp_path: Path) -> None:
    def report(phase: str, step: int, steps: int) -> bool:
        raise TimeoutError("no time is left")

    with pytest.raises(TimeoutError, match="no time is left"):
        build_engine(onnx_model, tmp_path / "net.plan", SMALL, report=report)
    assert [path.name for path in tmp_path.iterdir()] == ["net.plan.log"]


def test_ctrl_c_is_raised_after_tensorrt_has_stopped(onnx_model: Path, tmp_path: Path) -> None:
    def report(phase: str, step: int, steps: int) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_engine(onnx_model, tmp_path / "net.plan", SMALL, report=report)
    assert [path.name for path in tmp_path.iterdir()] == ["net.plan.log"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_leaves_nothing_half_written(onnx_model: Path, tmp_path: Path) -> None:
    plan = tmp_path / "net.plan"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # the log fits, the plan does not
    try:
        with pytest.raises(OutputError, match=r"cannot be written: File too large$"):
            build_engine(onnx_model, plan, SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["net.plan.log"]


def test_a_batch_beyond_all_memory_is_explained(onnx_model: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"could not build an engine of .*: .*a smaller --batch helps"):
        build_engine(onnx_model, tmp_path / "net.plan", BuildOptions("rtx", ((1, 8, 2**31 - 1),)))


@pytest.mark.parametrize("batch", [(0, 1, 2), (2, 1, 4), (1, 8, 4), (-1, 1, 1)])
def test_a_batch_range_that_is_none_is_refused(batch: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="is no range"):
        BuildOptions(profiles=(batch,))


def test_a_flavour_that_is_none_is_refused(onnx_model: Path) -> None:
    with pytest.raises(UsageError, match="no flavour 'cuda'"):
        build_engine(onnx_model, None, BuildOptions("cuda"))


def test_a_flavour_that_is_not_installed_is_named(onnx_model: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"tensorrt is not installed: .*fashion-infer\[gpu\]"):
            build_engine(onnx_model, None, BuildOptions("tensorrt"))
    else:
        pytest.skip("flavour tensorrt is installed")


BUILD = """
import sys
from pathlib import Path
from fashion_infer.tensorrt.build import BuildOptions, build_engine
build_engine(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions("rtx", ((1, 2, 4),)))
"""
CACHED = """
import sys
from pathlib import Path
from fashion_infer.tensorrt.build import BuildOptions, cached_engine
sys.stdin.readline()
print(cached_engine(Path(sys.argv[1]), BuildOptions("rtx", ((1, 2, 4),))))
"""
NO_TORCH = """
import sys
sys.modules["torch"] = None
from fashion_infer.cli import app
app(sys.argv[1:])
"""


@pytest.mark.skipif(shutil.which("setarch") is None, reason="needs setarch to place memory as before")
def test_equal_builds_give_equal_plans(onnx_model: Path, tmp_path: Path) -> None:
    for name in ("a.plan", "b.plan"):
        command = ["setarch", "-R", sys.executable, "-c", BUILD, str(onnx_model), str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=120)
    assert hashlib.sha256((tmp_path / "a.plan").read_bytes()).hexdigest() == sha256_of(tmp_path / "b.plan")
    assert side_file(tmp_path / "a.plan").read_text() == side_file(tmp_path / "b.plan").read_text()


def test_two_processes_build_one_engine(onnx_model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", CACHED, str(onnx_model)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert "".join(stderr for _, stderr in results).count("building an engine") == 1
    plan = Path(results[0][0].strip())
    assert plan.parent == tmp_path / "fashion-infer" / "engines"
    read_engine(plan)


def test_a_cache_that_cannot_be_written_says_what_to_do(onnx_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EngineBuildError, match=r"cannot be kept in .*file/engines.*fashion-infer export .* --engine"):
        cached_engine(onnx_model, SMALL, folder=tmp_path / "file" / "engines")


def test_a_damaged_cached_engine_is_built_again(
    onnx_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    plan = cached_engine(onnx_model, SMALL, folder=tmp_path)
    assert caplog.text.count("building an engine") == 1
    assert cached_engine(onnx_model, SMALL, folder=tmp_path) == plan
    assert caplog.text.count("building an engine") == 1
    plan.write_bytes(plan.read_bytes()[:1000])
    assert cached_engine(onnx_model, SMALL, folder=tmp_path) == plan
    assert "a cached engine is built again" in caplog.text
    read_engine(plan)
    other = cached_engine(onnx_model, BuildOptions("rtx", ((1, 1, 1),)), folder=tmp_path)
    assert other != plan


def test_a_cached_engine_is_built_in_the_precision_asked_for(
    onnx_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fashion_infer")
    own = cached_engine(onnx_model, SMALL, folder=tmp_path)
    assert "built an engine in fp32" in caplog.text
    assert 'without tensor cores, which precision="fp16" would use' in caplog.text
    plan = cached_engine(onnx_model, SMALL, precision="fp16", folder=tmp_path)
    assert plan != own
    assert "built an engine in fp16" in caplog.text
    _, facts = read_engine(plan)
    assert facts.precision == "fp16"
    assert facts.onnx_sha256 == sha256_of(onnx_model)
    assert facts.source == onnx_model.name
    assert cached_engine(onnx_model, SMALL, precision="fp16", folder=tmp_path) == plan
    assert caplog.text.count("building an engine") == 2


def test_no_engine_is_cached_in_a_precision_that_needs_more_or_does_not_agree(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fashion_infer import precision

    with pytest.raises(PrecisionError, match=r"no int8 engine can be built .* --calibration"):
        cached_engine(onnx_model, SMALL, precision="int8", folder=tmp_path)
    monkeypatch.setitem(precision.TOLERANCES, "fp16", 1e-9)
    with pytest.raises(ParityError, match="parity failed"):
        cached_engine(onnx_model, SMALL, precision="fp16", folder=tmp_path)
    assert not list(tmp_path.glob("*.plan"))


def test_two_profiles_are_built_into_one_engine_and_numbered_smallest_first(onnx_model: Path, tmp_path: Path) -> None:
    plan, facts = build_engine(onnx_model, tmp_path / "net.plan", BuildOptions("rtx", ((3, 4, 4), (1, 1, 2))))
    assert facts.profiles == ((1, 1, 2), (3, 4, 4))
    assert facts.rebuild_command.endswith("--batch 1:1:2,3:4:4")
    assert read_engine(plan)[1] == facts  # sessions number the profiles as the description lists them


def _cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fashion_infer.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("module", ["export.steps", "precision", "tensorrt.build", "onnx_file"])
def test_a_missing_onnx_is_named(module: str) -> None:
    code = f"import sys; sys.modules['onnx'] = None; import fashion_infer.{module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr.splitlines()[-1].startswith("fashion_infer.errors.MissingExtraError: onnx is not installed")


def test_the_command_line_builds_without_torch(onnx_model: Path, tmp_path: Path) -> None:
    source = shutil.copy(onnx_model, tmp_path / "net.onnx")
    command = [
        sys.executable,
        "-c",
        NO_TORCH,
        "export",
        source,
        "--engine",
        "--precision",
        "fp16",
        "--batch",
        "1:2:4",
        "--json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["plan"] == str(tmp_path / "net.fp16.rtx.plan")
    assert answer["onnx"] is None
    assert answer["parity"]["tolerance"] == 0.02
    assert answer["engine"]["precision"] == "fp16"
    assert answer["engine"]["onnx_sha256"] == sha256_of(onnx_model)
    names = {"net.onnx", *(f"net.fp16.rtx.plan{end}" for end in ("", ".json", ".log"))}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "is an ONNX file already"),
        (["--engine", "--batch", "8"], 2, "is no batch range"),
        (["--engine", "--batch", "8:4:2"], 2, "is no range"),
        (["--engine", "--batch", "1:1:4,8"], 2, "is no batch range"),
        (["--precision", "fp8"], 2, "unknown precision"),
        (["--engine", "--flavour", "tensorrt"], 3, "fashion-infer[gpu]"),
    ],
)
def test_the_command_lines_exit_codes(onnx_model: Path, arguments: list[str], code: int, message: str) -> None:
    result = _cli("export", str(onnx_model), *arguments)
    assert (result.returncode, message in " ".join(result.stderr.split())) == (code, True), result.stderr
