"""The network comes back from its file: of every backbone, and the built-in one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.errors import ModelError, ModelNotFoundError
from fashion_infer.export.from_onnx import load_model, network_from_onnx
from fashion_infer.export.onnx_model import export_onnx
from fashion_infer.images import read_image
from fashion_infer.model_spec import OUTPUT_NAMES
from fashion_infer.models import find_model
from fashion_infer.onnx_file import packed
from fashion_infer.preprocess import crop
from fashion_infer.synthetic.rendering import render
from fashion_infer.training.checkpoint import ARCHITECTURE_KEY, load_checkpoint, save_checkpoint, take_over
from fashion_infer.training.model import Architecture, Deployed, FashionNet

LIGHT = ["tf_efficientnet_lite0", "resnet50"]


@pytest.fixture(scope="module")
def exported(light_models: Callable[[str], Path]) -> Callable[[str], tuple[Path, FashionNet]]:
    """Gives an exported network and the network that it was exported from."""

    def load(backbone: str) -> tuple[Path, FashionNet]:
        path = light_models(backbone)
        return path, load_checkpoint(path.parents[1] / "light.safetensors")[0]

    return load


def pictures(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)


def assert_same_outputs(network: FashionNet, temperature: float, path: Path) -> None:
    images = pictures(network.arch.image_size)
    expected = OnnxRuntimeBackend(path).run(images)
    with torch.inference_mode():
        tensors = Deployed(network, temperature).eval()(torch.from_numpy(images))
    for name, tensor in zip(OUTPUT_NAMES, tensors, strict=True):
        np.testing.assert_allclose(tensor.numpy(), expected[name], atol=2e-4, err_msg=name)


@pytest.mark.parametrize("backbone", LIGHT)
def test_the_network_comes_back(exported: Callable[[str], tuple[Path, FashionNet]], backbone: str) -> None:
    path, before = exported(backbone)
    network, spec = network_from_onnx(path)
    assert not network.training
    assert network.arch == before.arch
    assert_same_outputs(network, spec.temperature, path)


def test_the_papers_network_comes_back_bit_for_bit(onnx_model: Path, checkpoint: Path) -> None:
    network, spec = network_from_onnx(onnx_model)
    before, spec_before = load_checkpoint(checkpoint)
    assert replace(spec, embedding_sha256=spec_before.embedding_sha256) == spec_before
    for name, tensor in before.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


def test_from_a_file_whose_weights_are_stored_in_half_the_bytes(
    exported: Callable[[str], tuple[Path, FashionNet]], tmp_path: Path
) -> None:
    small = tmp_path / "small.onnx"
    onnx.save_model(packed(onnx.load(exported("tf_efficientnet_lite0")[0])), small)
    network, spec = network_from_onnx(small)
    assert_same_outputs(network, spec.temperature, small)


def test_a_file_that_does_not_name_its_architecture(
    exported: Callable[[str], tuple[Path, FashionNet]], tmp_path: Path
) -> None:
    path = exported("tf_efficientnet_lite0")[0]
    older, model = tmp_path / "older.onnx", onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != ARCHITECTURE_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save_model(model, older)
    with pytest.raises(ModelError, match="does not say how its network is built"):
        network_from_onnx(older)
    arch = network_from_onnx(path)[0].arch
    assert_same_outputs(network_from_onnx(older, arch)[0], 1.0, older)
    other = Architecture(arch.backbone, arch.image_size, 3, 5, embedding_dim=8, width=0.3)
    with pytest.raises(ModelError, match="does not hold the FashionNet it describes"):
        network_from_onnx(older, other)


def test_a_backbone_whose_constants_are_folded_elsewhere(exported: Callable[[str], tuple[Path, FashionNet]]) -> None:
    """ConvNeXt's layer scale goes into the linear layer before it."""
    with pytest.raises(ModelError, match=r"lacks 12 of its weights, for example .*gamma"):
        network_from_onnx(exported("convnext_atto")[0])


def test_weights_that_are_missing_are_named(exported: Callable[[str], tuple[Path, FashionNet]], tmp_path: Path) -> None:
    model = onnx.load(exported("tf_efficientnet_lite0")[0])
    (tensor,) = (t for t in model.graph.initializer if t.name == "model.category.weight")
    tensor.name = "something"
    onnx.save_model(model, tmp_path / "cut.onnx")
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, for example category\.weight"):
        network_from_onnx(tmp_path / "cut.onnx")


def test_what_cannot_be_trained_on(onnx_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        network_from_onnx(tmp_path / "none.onnx")
    model = onnx.load(onnx_model)
    int8 = tmp_path / "int8.onnx"
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["a", "b"], ["c"]))
    onnx.save_model(model, int8)
    with pytest.raises(ModelError, match="is in int8: only an fp32 file"):
        network_from_onnx(int8)


def test_the_built_in_model_comes_back() -> None:
    path = find_model("fashionnet-lite")
    network, spec = network_from_onnx(path)
    images = np.stack([crop(read_image(render(1, i).image), None, spec.image_size).pixels for i in range(4)])
    expected = OnnxRuntimeBackend(path).run(images)
    with torch.inference_mode():
        tensors = Deployed(network, spec.temperature).eval()(torch.from_numpy(images))
    for name, tensor in zip(OUTPUT_NAMES, tensors, strict=True):
        np.testing.assert_allclose(tensor.numpy(), expected[name], atol=2e-4, err_msg=name)


def test_heads_of_all_features_come_back_and_the_embedding_keeps_its_space(
    exported: Callable[[str], tuple[Path, FashionNet]], tmp_path: Path
) -> None:
    path = exported("test_efficientnet")[0]
    network, spec = network_from_onnx(path)
    wide = FashionNet(replace(network.arch, heads="all"))
    take_over(wide, spec, network, spec)
    save_checkpoint(tmp_path / "wide.safetensors", wide.eval(), spec, spec.embedding_sha256)
    export_onnx(tmp_path / "wide.safetensors", tmp_path / "wide.onnx")
    again, wide_spec = load_model(str(tmp_path / "wide.onnx"))
    assert wide_spec.embedding_space == spec.embedding_space
    assert again.arch.heads == "all"
    assert_same_outputs(again, spec.temperature, path)


def test_a_model_is_a_name_a_file_or_a_checkpoint(
    exported: Callable[[str], tuple[Path, FashionNet]], checkpoint: Path
) -> None:
    assert load_model("fashionnet-lite")[1].arch == "tf_efficientnet_lite0"
    assert load_model(str(exported("resnet50")[0]))[1].arch == "resnet50"
    assert load_model(str(checkpoint))[1].arch == "vgg16"
    with pytest.raises(ModelNotFoundError, match="there is no model file none"):
        load_model("none")
