"""A light backbone as an ONNX file, beside the paper's network of the fixture `onnx_model`."""

from pathlib import Path

import pytest

from fashion_infer.model_spec import ModelSpec


@pytest.fixture(scope="session")
def light_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of an fp32 .onnx file of the default backbone with random weights; read it, do not change it."""
    import onnx
    import torch

    from fashion_infer.export.onnx_model import to_onnx
    from fashion_infer.training.model import Architecture, Deployed, FashionNet

    arch = Architecture("tf_efficientnet_lite0", 64, 3, 5, embedding_dim=8, width=0.1)
    spec = ModelSpec(arch.backbone, 64, ("a", "b", "c"), tuple("abcde"), ("texture",) * 5, 8, False, "")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FashionNet(arch)
    path = tmp_path_factory.mktemp("light") / "light.onnx"
    onnx.save_model(to_onnx(Deployed(network, 1.0).eval(), spec), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 rendered garments, .png."""
    import cv2

    from fashion_infer.data.synthetic import render

    folder = tmp_path_factory.mktemp("pictures")
    for index in range(24):
        cv2.imwrite(str(folder / f"{index:02}.png"), render(7, index).image[..., ::-1])
    return folder
