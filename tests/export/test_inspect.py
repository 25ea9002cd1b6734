import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from safetensors.numpy import save_file

from fashion_infer.errors import ModelError, ModelNotFoundError
from fashion_infer.export.inspect import inspect_file
from fashion_infer.files import sha256_of


def test_what_an_onnx_file_is(onnx_model: Path) -> None:
    facts = inspect_file(onnx_model)
    assert facts["kind"] == "ONNX model"
    assert facts["sha256"] == sha256_of(onnx_model)
    assert facts["bytes"] == onnx_model.stat().st_size
    assert facts["opset"] == {"ai.onnx": 20, "fashion_infer": 1}
    assert facts["functions"] == ["fashion_infer.LandmarkPool"]
    assert facts["inputs"] == {"images": "uint8 [batch, 64, 64, 3]"}
    assert facts["outputs"] == {
        "category": "float [batch, 3]",
        "attributes": "float [batch, 5]",
        "landmarks": "float [batch, 8, 2]",
        "visibility": "float [batch, 8, 3]",
        "embedding": "float [batch, 8]",
    }
    assert facts["parity"]["same_cells"] > 0.5
    assert facts["spec"]["categories"] == ("Tee", "Dress", "Jeans")
    json.dumps(facts)


def test_what_a_checkpoint_is(checkpoint: Path) -> None:
    facts = inspect_file(checkpoint)
    assert facts["kind"] == "checkpoint"
    assert facts["tensors"] > 30
    assert facts["values"] * 4 < facts["bytes"]
    assert facts["spec"]["arch"] == "vgg16"
    json.dumps(facts)


def foreign_onnx(path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), path)


def foreign_safetensors(path: Path) -> None:
    save_file({}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.onnx", lambda path: path.write_text("hello"), "is not an ONNX file, or is damaged"),
        ("a.onnx", foreign_onnx, "not one that fashion-infer export wrote"),
        ("a.txt", lambda path: path.write_text("hello"), r"neither an \.onnx file nor a safetensors checkpoint"),
        ("a.safetensors", foreign_safetensors, "not a checkpoint of fashion-infer train"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelError, match=message):
        inspect_file(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no model file"):
        inspect_file(tmp_path)
