import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import pytest
import torch

from fashion_infer.errors import ImageError, ModelError, ModelNotFoundError, ParityError
from fashion_infer.evaluation.parity import TOLERANCE
from fashion_infer.export import onnx_model as exporter
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.model_spec import METADATA_KEY, OUTPUT_NAMES, PARITY_KEY, ModelSpec
from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint
from fashion_infer.training.model import Deployed

LIGHT = ["tf_efficientnet_lite0", "mobilenetv4_conv_small", "resnet50", "convnext_atto"]


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_the_file_describes_itself(onnx_model: Path, checkpoint: Path) -> None:
    facts = metadata(onnx_model)
    spec = ModelSpec.from_json(facts[METADATA_KEY])
    assert spec.embedding_sha256
    assert replace(spec, embedding_sha256="") == load_checkpoint(checkpoint)[1]
    parity = json.loads(facts[PARITY_KEY])
    assert set(parity["differences"]) == set(OUTPUT_NAMES)
    assert max(parity["differences"].values()) <= TOLERANCE


def test_pooling_is_one_node_with_its_function(onnx_model: Path) -> None:
    model = onnx.load(onnx_model)
    onnx.checker.check_model(model, full_check=True)
    (node,) = (node for node in model.graph.node if node.domain == "fashion_infer")
    assert node.op_type == "LandmarkPool"
    assert {a.name: a.i for a in node.attribute} == {"pooled_size": 4, "bin_size": 2}
    assert [f"{f.domain}.{f.name}" for f in model.functions] == ["fashion_infer.LandmarkPool"]
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)


def test_the_first_operator_is_a_cast(onnx_model: Path) -> None:
    """TensorRT computes nothing else on uint8."""
    first = {node.op_type for node in onnx.load(onnx_model).graph.node if "images" in node.input}
    assert first <= {"Cast", "Shape"}  # a size is no arithmetic


def test_nothing_of_the_exporting_machine_is_in_the_file(onnx_model: Path) -> None:
    content = onnx_model.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(exporter.__file__).parent).encode() not in content
    assert b".py" not in content


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_any_batch_size(onnx_model: Path, checkpoint: Path, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    outputs = ort.InferenceSession(onnx_model, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    network, spec = load_checkpoint(checkpoint)
    assert [tuple(a.shape) for a in outputs] == [(count, *shape) for shape in spec.output_shapes().values()]
    if count:
        with torch.inference_mode():
            expected = Deployed(network, spec.temperature).eval()(torch.from_numpy(images))
        for a, b in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(a, b.numpy(), atol=1e-5)


def test_onnx_reference_runs_the_file_too(onnx_model: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    outputs = onnx.reference.ReferenceEvaluator(onnx.load(onnx_model)).run(None, {"images": images})
    expected = ort.InferenceSession(onnx_model, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    for a, b in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("backbone", LIGHT)
def test_every_light_backbone(light_models: Callable[[str], Path], backbone: str) -> None:
    path = light_models(backbone)
    facts = metadata(path)
    assert max(json.loads(facts[PARITY_KEY])["differences"].values()) <= TOLERANCE
    assert ModelSpec.from_json(facts[METADATA_KEY]).arch == backbone
    assert ModelSpec.from_json(facts[METADATA_KEY]).trained is False
    assert list(path.parent.iterdir()) == [path]


def test_the_temperature_is_inside(checkpoint: Path, onnx_model: Path, tmp_path: Path) -> None:
    network, spec = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "warm.safetensors", network, ModelSpec(**{**vars(spec), "temperature": 4.0}))
    export_onnx(tmp_path / "warm.safetensors", tmp_path / "warm.onnx")
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    cold, warm = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["category"], {"images": images})[0]
        for path in (onnx_model, tmp_path / "warm.onnx")
    )
    expected = cold**0.25 / (cold**0.25).sum()
    np.testing.assert_allclose(warm, expected, atol=1e-5)


def test_photos_of_ones_own_are_compared_on(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no images"):
        export_onnx(checkpoint, tmp_path / "a.onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_leaves_the_old_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "fashionnet.onnx"
    output.write_text("the old one")
    monkeypatch.setattr("fashion_infer.evaluation.parity.MIN_SHARE", 1.1)
    with pytest.raises(ParityError, match="parity failed"):
        export_onnx(checkpoint, output)
    assert output.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [output]


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no checkpoint"):
        export_onnx(tmp_path / "none.safetensors", tmp_path / "a.onnx")


def test_weights_above_two_gigabytes_are_refused_with_advice() -> None:
    exporter._check_size(2**31 - 2**21)
    with pytest.raises(ModelError, match=r"take 2\.00 GiB and one ONNX file holds 2: train with a smaller --width"):
        exporter._check_size(2**31)
