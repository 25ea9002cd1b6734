"""The model repository, read by Triton's own protobuf and compared with what ONNX Runtime says of the file.

No Triton server was run.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from fashion_infer.errors import EngineMismatchError, ModelError, UsageError
from fashion_infer.export.triton import model_name, plans_beside, write_repository
from fashion_infer.files import sha256_of
from fashion_infer.model_spec import ModelSpec
from fashion_infer.models import find_model
from fashion_infer.onnx_file import load_onnx
from fashion_infer.tensorrt.engine_file import EngineFile, side_file

TYPES = {"tensor(uint8)": model_config_pb2.TYPE_UINT8, "tensor(float)": model_config_pb2.TYPE_FP32}


def config_of(model: Path) -> Any:
    """Parsed strictly: a field or a value that Triton does not know is an error."""
    return text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def plan_of(onnx_file: Path, name: str, **changes: Any) -> Path:
    """A plan beside an ONNX file, whose content nothing here looks at, and a true description of it."""
    plan = onnx_file.parent / name
    plan.write_bytes(name.encode())
    engine = EngineFile(
        spec=load_onnx(onnx_file)[1],
        plan_sha256=hashlib.sha256(name.encode()).hexdigest(),
        onnx_sha256=sha256_of(onnx_file),
        source=onnx_file.name,
        flavour="tensorrt",
        tensorrt="11.4.1",
        gpu="NVIDIA H100",
        compute_capability="9.0",
        precision="fp16",
        profiles=((1, 1, 4), (5, 32, 64)),
        activation_bytes=0,
        products={},
    )
    side_file(plan).write_text(dataclasses.replace(engine, **changes).to_json())
    return plan


@pytest.fixture
def net(onnx_model: Path, tmp_path: Path) -> Path:
    """A copy of the small model that a plan may lie beside."""
    copy = tmp_path / "net" / "fashionnet.onnx"
    copy.parent.mkdir()
    copy.write_bytes(onnx_model.read_bytes())
    return copy


@pytest.mark.parametrize("name", ["fashionnet-lite", "fashionnet-lite-int8", None])
def test_the_configuration_is_that_of_the_file(name: str | None, onnx_model: Path, tmp_path: Path) -> None:
    source = onnx_model if name is None else find_model(name)
    (folder,) = write_repository(source, tmp_path / "models")
    file, config = folder / "1" / "model.onnx", config_of(folder)
    assert folder == tmp_path / "models" / source.stem
    assert file.read_bytes() == source.read_bytes()
    assert (config.name, config.backend, config.max_batch_size) == (folder.name, "onnxruntime", 32)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [value.name for value in described] == [value.name for value in real]
        assert [value.data_type for value in described] == [TYPES[value.type] for value in real]
        assert [list(value.dims) for value in described] == [value.shape[1:] for value in real]
        assert all(isinstance(value.shape[0], str) for value in real), "the batch is free"
    expected = model_config_pb2.ModelInstanceGroup.KIND_CPU if name and "int8" in name else 0  # 0 is KIND_AUTO
    assert [(group.kind, group.count) for group in config.instance_group] == [(expected, 1)]


def test_the_file_carries_landmark_pool_itself(onnx_model: Path, tmp_path: Path) -> None:
    (folder,) = write_repository(onnx_model, tmp_path)
    model = onnx.load(folder / "1" / "model.onnx")
    assert [(function.domain, function.name) for function in model.functions] == [("fashion_infer", "LandmarkPool")]


def test_queue_warm_up_and_labels(onnx_model: Path, tmp_path: Path) -> None:
    (folder,) = write_repository(onnx_model, tmp_path)
    config = config_of(folder)
    batching = config.dynamic_batching
    assert (batching.max_queue_delay_microseconds, list(batching.preferred_batch_size)) == (2000, [])
    policy = batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert (policy.default_timeout_microseconds, policy.max_queue_size) == (100_000, 1024)
    assert policy.allow_timeout_override
    assert [warm.batch_size for warm in config.model_warmup] == [1, 32]
    for warm in config.model_warmup:
        (key, value), *others = warm.inputs.items()
        assert (key, value.data_type, list(value.dims), others) == (
            "images", model_config_pb2.TYPE_UINT8, [64, 64, 3], [],
        )  # fmt: skip
        assert value.zero_data
    labels = {output.name: output.label_filename for output in config.output if output.label_filename}
    spec = load_onnx(onnx_model)[1]
    assert {name: (folder / file).read_text().splitlines() for name, file in labels.items()} == {
        "category": list(spec.categories),
        "attributes": list(spec.attributes),
    }


def test_engines_are_models_of_their_own(net: Path, tmp_path: Path) -> None:
    plan_of(net, "fashionnet.fp16.sm90.plan")
    plan_of(net, "fashionnet.rtx.plan", flavour="rtx", compute_capability="portable")
    plan_of(net, "other.plan", onnx_sha256="0" * 64)
    (net.parent / "foreign.plan").touch()
    plans = plans_beside(net)
    assert [plan.name for plan in plans] == ["fashionnet.fp16.sm90.plan"]
    first, second = write_repository(net, tmp_path / "models", plans)
    assert (first.name, second.name) == ("fashionnet", "fashionnet-tensorrt")
    assert (second / "1" / "model.plan").read_bytes() == plans[0].read_bytes()
    config = config_of(second)
    assert (config.name, config.backend, config.max_batch_size) == (second.name, "tensorrt", 64)
    (group,) = config.instance_group
    assert (group.kind, list(group.profile)) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, ["0", "1"])
    assert list(config.dynamic_batching.preferred_batch_size) == [1, 32]
    assert [warm.batch_size for warm in config.model_warmup] == [1, 64]
    assert list(config.input) == list(config_of(first).input)
    assert list(config.output) == list(config_of(first).output)
    first_line = (second / "config.pbtxt").read_text().splitlines()[0]
    requirement = "the server must have the same TensorRT and compute capability"
    assert first_line == f"# fp16, TensorRT 11.4.1, compute capability 9.0: {requirement}"


def test_writing_again_replaces_and_leaves_others_alone(net: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "theirs").mkdir(parents=True)
    (tmp_path / "models" / "theirs" / "config.pbtxt").write_text("theirs")
    for _ in range(2):
        (folder,) = write_repository(net, tmp_path / "models")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["fashionnet", "theirs"]
    assert (tmp_path / "models" / "theirs" / "config.pbtxt").read_text() == "theirs"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "attributes.txt", "category.txt", "config.pbtxt"]


def test_what_triton_cannot_serve(net: Path, tmp_path: Path, with_spec: Callable[[Any], Path]) -> None:
    rtx = plan_of(net, "a.plan", flavour="rtx", compute_capability="portable")
    with pytest.raises(UsageError, match="Triton runs TensorRT's own engines only"):
        write_repository(net, tmp_path / "models", [rtx])
    damaged = plan_of(net, "b.plan")
    damaged.write_bytes(b"changed")
    with pytest.raises(EngineMismatchError, match="its description says"):
        write_repository(net, tmp_path / "models", [damaged])
    spec: ModelSpec = load_onnx(net)[1]
    lying = with_spec(dataclasses.replace(spec, categories=("one",)))
    with pytest.raises(ModelError, match="has inputs and outputs"):
        write_repository(lying, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("file", "name"), [("a.fp16.onnx", "a.fp16"), ('q"\n ü.onnx', "q____"), ("net_1-b.onnx", "net_1-b")]
)
def test_the_name_is_one_that_triton_takes(file: str, name: str) -> None:
    assert model_name(Path(file)) == name
