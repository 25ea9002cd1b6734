"""A small real model for every test that needs one: a FashionNet with random weights, saved and exported for real."""

import os
from collections.abc import Callable
from functools import partial
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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Gives a folder that the test processes of a run share: the first one that asks for it fills it, the others wait.

    An export takes seconds, and every test process would repeat it. Read the folder, do not change it.
    """
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        from filelock import FileLock  # torch depends on it

        folder, unfinished = root / name, root / f"{name}.unfinished"
        with FileLock(root / f"{name}.lock"):
            if not folder.exists():
                unfinished.mkdir(exist_ok=True)
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoint(made_once: Callable[..., Path]) -> Path:
    """Path of a checkpoint, .safetensors."""

    def fill(folder: Path) -> None:
        import torch

        from fashion_infer.training.checkpoint import save_checkpoint
        from fashion_infer.training.model import Architecture, FashionNet

        arch = Architecture(
            SPEC.arch, SPEC.image_size, len(SPEC.categories), len(SPEC.attributes), SPEC.embedding_dim, width=0.05
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_checkpoint(folder / "fashionnet.safetensors", FashionNet(arch), SPEC)

    return made_once("checkpoint", fill) / "fashionnet.safetensors"


@pytest.fixture(scope="session")
def onnx_model(made_once: Callable[..., Path], checkpoint: Path) -> Path:
    """Path of that checkpoint exported to .onnx, parity checked; read it, do not change it."""

    def fill(folder: Path) -> None:
        from fashion_infer.export.onnx_model import export_onnx

        export_onnx(checkpoint, folder / "fashionnet.onnx")

    return made_once("onnx_model", fill) / "fashionnet.onnx"


@pytest.fixture(scope="session")
def light_models(made_once: Callable[..., Path]) -> Callable[[str], Path]:
    """Gives the path of an fp32 .onnx file of a backbone with random weights; read it, do not change it.

    The checkpoint that it was exported from is `light.safetensors` in the folder above. The network's values all
    differ, as after training: the exporter writes equal tensors only once.
    """

    def fill(folder: Path, backbone: str) -> None:
        import torch

        from fashion_infer.export.onnx_model import export_onnx
        from fashion_infer.training.checkpoint import save_checkpoint
        from fashion_infer.training.model import Architecture, FashionNet

        arch = Architecture(backbone, 64, 3, 5, embedding_dim=8, width=0.1)
        spec = ModelSpec(backbone, 64, ("a", "b", "c"), tuple("abcde"), ("texture",) * 5, 8, False, "")
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            network = FashionNet(arch)
            for name, tensor in network.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.8, 1.25)
                elif tensor.is_floating_point():
                    tensor.add_(0.01 * torch.randn_like(tensor))
        save_checkpoint(folder / "light.safetensors", network, spec)
        export_onnx(folder / "light.safetensors", folder / "out" / "light.onnx")

    def export(backbone: str) -> Path:
        return made_once(backbone, partial(fill, backbone=backbone)) / "out" / "light.onnx"

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
