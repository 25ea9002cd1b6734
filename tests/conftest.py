"""A small real model for every test that needs one: a FashionNet with random weights, saved and exported for real."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fashion_infer.model_spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec(
    arch="vgg16",
    image_size=64,
    categories=("Tee", "Dress", "Jeans"),
    attributes=("floral", "striped", "cotton", "maxi", "v-neck"),
    attribute_groups=("texture", "texture", "fabric", "shape", "part"),
    embedding_dim=8,
    trained=True,  # it never was, but the warning about that belongs to one test only
    weights_sha256="",  # save_checkpoint fills it in
    threshold=0.4,
)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a checkpoint, .safetensors."""
    import torch

    from fashion_infer.training.checkpoint import save_checkpoint
    from fashion_infer.training.model import Architecture, FashionNet

    arch = Architecture(
        SPEC.arch, SPEC.image_size, len(SPEC.categories), len(SPEC.attributes), SPEC.embedding_dim, width=0.05
    )
    path = tmp_path_factory.mktemp("model") / "fashionnet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, FashionNet(arch), SPEC)
    return path


@pytest.fixture(scope="session")
def onnx_model(checkpoint: Path) -> Path:
    """Path of that checkpoint exported to .onnx, parity checked; read it, do not change it."""
    from fashion_infer.export.onnx_model import export_onnx

    path = checkpoint.with_suffix(".onnx")
    export_onnx(checkpoint, path)
    return path


@pytest.fixture(scope="session")
def light_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the path of an fp32 .onnx file of a backbone with random weights; read it, do not change it."""

    @cache
    def export(backbone: str) -> Path:
        import torch

        from fashion_infer.export.onnx_model import export_onnx
        from fashion_infer.training.checkpoint import save_checkpoint
        from fashion_infer.training.model import Architecture, FashionNet

        arch = Architecture(backbone, 64, 3, 5, embedding_dim=8, width=0.1)
        spec = ModelSpec(backbone, 64, ("a", "b", "c"), tuple("abcde"), ("texture",) * 5, 8, False, "")
        folder = tmp_path_factory.mktemp("light")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_checkpoint(folder / "light.safetensors", FashionNet(arch), spec)
        path = folder / "out" / "light.onnx"
        export_onnx(folder / "light.safetensors", path)
        return path

    return export


@pytest.fixture(scope="session")
def light_model(light_models: Callable[[str], Path]) -> Path:
    """Path of such a file of the default backbone."""
    return light_models("tf_efficientnet_lite0")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 rendered garments, .png."""
    import cv2

    from fashion_infer.synthetic.rendering import render

    folder = tmp_path_factory.mktemp("pictures")
    for index in range(24):
        cv2.imwrite(str(folder / f"{index:02}.png"), render(7, index).image[..., ::-1])
    return folder


@pytest.fixture
def with_spec(onnx_model: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """Gives a copy of that model with other text where the ModelSpec is, or with none for None."""

    def change(spec: str | ModelSpec | None) -> Path:
        import onnx

        model = onnx.load(onnx_model)
        kept = [prop for prop in model.metadata_props if prop.key != METADATA_KEY]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        if spec is not None:
            model.metadata_props.add(key=METADATA_KEY, value=spec if isinstance(spec, str) else spec.to_json())
        path = tmp_path / "changed.onnx"
        onnx.save(model, path)
        return path

    return change


@pytest.fixture(autouse=True, scope="session")
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered between runs of this package must not reach its tests, nor come from them."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
