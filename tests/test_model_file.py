import os
import re
from pathlib import Path

import pytest

from fashion_infer import Predictor
from fashion_infer.errors import ModelError, ModelNotFoundError
from fashion_infer.files import sha256_of
from fashion_infer.model_file import check_shapes, parse_onnx, read_model, read_spec
from fashion_infer.model_spec import METADATA_KEY, OUTPUT_NAMES


def test_a_model_file_is_returned_unchanged(onnx_model: Path) -> None:
    file = read_model(onnx_model, require_hash=sha256_of(onnx_model).upper())
    assert read_model(file) is file
    assert (file.path, file.size, file.sha256) == (onnx_model, onnx_model.stat().st_size, sha256_of(onnx_model))
    file.check_unchanged()


def test_another_hash_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match=f"has sha256 {sha256_of(path)}, expected 12ab: it is another file"):
        Predictor(path, require_hash="12ab")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(ModelNotFoundError, match=re.escape(f"there is no model file {path}")):
            read_model(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"secret")
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        read_model(path, require_hash="12ab")


@pytest.mark.parametrize("how", ["written", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_loaded_is_refused(how: str, onnx_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_model.read_bytes())
    file = read_model(path, require_hash=sha256_of(onnx_model))
    if how == "written":
        path.write_bytes(b"another")
    elif how == "replaced":
        (tmp_path / "b.onnx").write_bytes(onnx_model.read_bytes())
        (tmp_path / "b.onnx").replace(path)
    else:
        path.unlink()
    with pytest.raises(ModelError, match="was changed while it was loaded: load it again"):
        file.check_unchanged()


def test_every_runtime_reads_the_same_spec(onnx_model: Path) -> None:
    model, spec = parse_onnx(read_model(onnx_model), extra="export")
    assert spec == read_spec(onnx_model, {entry.key: entry.value for entry in model.metadata_props})
    assert spec.arch == "vgg16"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, r"not one that fashion-infer export wrote \(no fashion_infer.model_spec\)"),
        ({METADATA_KEY: "{"}, "a.onnx: the ModelSpec is not JSON"),
    ],
)
def test_a_file_without_a_readable_spec(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_spec(Path("a.onnx"), metadata)


def test_inputs_and_outputs_must_agree_with_the_spec(onnx_model: Path) -> None:
    _, spec = parse_onnx(read_model(onnx_model), extra="export")
    shapes = {"images": (64, 64, 3), **spec.output_shapes()}
    check_shapes(onnx_model, spec, shapes)
    for name in OUTPUT_NAMES:
        with pytest.raises(ModelError, match=r"has inputs and outputs .*, its ModelSpec says"):
            check_shapes(onnx_model, spec, {**shapes, name: (3, 3, 3)})
