"""A small real model for every test that needs one: a FashionNet with random weights, saved and exported for real."""

from pathlib import Path

import pytest

from fashion_infer.model_spec import ModelSpec

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
