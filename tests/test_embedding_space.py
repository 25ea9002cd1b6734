from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fashion_infer import Predictor
from fashion_infer.embedding_space import converted_spec, hash_of_embedding
from fashion_infer.model_spec import ModelSpec
from fashion_infer.onnx_file import load_onnx, packed
from fashion_infer.precision import convert_file


def changed(model: onnx.ModelProto, part: str) -> onnx.ModelProto:
    """A copy of the model with other values in the weights whose names contain `part`."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    names = [tensor.name for tensor in result.graph.initializer if part in tensor.name]
    assert names, [tensor.name for tensor in result.graph.initializer]
    for tensor in result.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.5), tensor.name))
    return result


@pytest.mark.parametrize(
    ("part", "same"),
    [
        ("category", True),
        ("attributes", True),
        ("embedding", False),
        ("conv4", False),
        ("fc7_fusion", False),
        ("pose", False),
    ],
)
def test_only_weights_that_influence_the_embedding_count(onnx_model: Path, part: str, same: bool) -> None:
    model, spec = load_onnx(onnx_model)
    assert spec.embedding_sha256 == hash_of_embedding(model.graph)
    assert (hash_of_embedding(changed(model, part).graph) == spec.embedding_sha256) is same


def test_the_space_depends_on_size_and_input_too(onnx_model: Path) -> None:
    spec = load_onnx(onnx_model)[1]
    assert len(spec.embedding_space) == 16
    assert replace(spec, threshold=0.1, weights_sha256="1").embedding_space == spec.embedding_space
    spaces = {replace(spec, embedding_dim=9).embedding_space, replace(spec, image_size=96).embedding_space}
    assert len({spec.embedding_space, *spaces}) == 3
    assert ModelSpec.from_json(spec.to_json()).embedding_space == spec.embedding_space


def test_files_without_the_hash_are_named_after_all_weights(onnx_model: Path) -> None:
    spec = replace(load_onnx(onnx_model)[1], embedding_sha256="")
    assert spec.embedding_space == replace(spec, threshold=0.1).embedding_space
    assert spec.embedding_space != replace(spec, weights_sha256="1").embedding_space


def test_the_built_in_models_share_a_space() -> None:
    with Predictor("fashionnet-lite") as one, Predictor("fashionnet-lite-int8") as other:
        assert one.spec.embedding_space == other.spec.embedding_space


def test_a_file_with_packed_weights_keeps_the_space(onnx_model: Path) -> None:
    model, spec = load_onnx(onnx_model)
    assert spec.to_json() in [entry.value for entry in packed(model).metadata_props]


@pytest.mark.parametrize(
    ("angle", "real", "same", "cosine"),
    [(0.1, True, True, 0.995), (0.2, True, False, 0.980), (0.1, False, False, None)],
)
def test_another_precision_shares_the_space_if_real_pictures_agree(
    onnx_model: Path, angle: float, real: bool, same: bool, cosine: float | None
) -> None:
    spec = load_onnx(onnx_model)[1]
    expected = np.tile(np.float32([1, 0]), (5, 1))
    embeddings = np.tile(np.float32([np.cos(angle), np.sin(angle)]), (5, 1))
    converted = converted_spec(spec, expected, embeddings, precision="fp16", real=real)
    assert (converted.embedding_space == spec.embedding_space) is same
    assert converted.embedding_cosine == (None if cosine is None else pytest.approx(cosine, abs=1e-3))


def test_an_embedding_of_nans_does_not_agree(onnx_model: Path) -> None:
    spec = load_onnx(onnx_model)[1]
    expected = np.float32([[1, 0]])
    assert converted_spec(spec, expected, expected * np.nan, precision="fp16", real=True).embedding_cosine == -1


@pytest.fixture(scope="module")
def convert(onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path | None], ModelSpec]:
    def to_fp16(photos: Path | None) -> ModelSpec:
        path = tmp_path_factory.mktemp("fp16") / "model.onnx"
        convert_file(onnx_model, path, "fp16", photos)
        return load_onnx(path)[1]

    return to_fp16


def test_a_converted_file_says_how_well_it_agrees(
    onnx_model: Path, pictures: Path, convert: Callable[[Path | None], ModelSpec]
) -> None:
    spec, on_photos, on_rendered = load_onnx(onnx_model)[1], convert(pictures), convert(None)
    assert on_photos.embedding_space == spec.embedding_space
    assert on_photos.embedding_cosine is not None
    assert on_photos.embedding_cosine >= 0.99
    assert on_rendered.embedding_space != spec.embedding_space
