"""Class folders of painted pictures, and a small network with random weights that can tell them apart."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from fashion_infer.model_spec import ModelSpec
from fashion_infer.training.model import Architecture, FashionNet

COLORS = {"Hat": (200, 60, 60), "Shoes": (60, 200, 60), "Tee": (60, 60, 200), "bag": (200, 200, 60)}


def paint(folder: Path, counts: Mapping[str, int], seed: int = 0) -> Path:
    """Write so many pictures of each class of `COLORS`: its colour, some noise, and a bar somewhere."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(folder / name / f"{seed}_{number}.png"), picture(rng, COLORS[name])[..., ::-1])
    return folder


def picture(rng: np.random.Generator, color: tuple[int, int, int]) -> np.ndarray:
    """uint8 [48, 48, 3] RGB."""
    pixels = np.array(color) + rng.normal(0, 25, (48, 48, 3))
    x, y = rng.integers(0, 36, 2)
    pixels[y : y + 12, x : x + 12] = rng.integers(0, 256, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def small_network(**changed: object) -> tuple[FashionNet, ModelSpec]:
    """A network of 32 pixels with the categories Tee and Dress, in evaluation mode, and its spec.

    Its backbone is the small EfficientNet that timm has for tests.
    """
    arch = Architecture("test_efficientnet", 32, 2, 3, embedding_dim=8, width=0.1, **changed)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FashionNet(arch).eval()
    spec = ModelSpec(
        arch.backbone,
        32,
        ("Tee", "Dress"),
        ("floral", "striped", "cotton"),
        ("texture", "texture", "fabric"),
        8,
        trained=True,
        weights_sha256="1" * 64,
        embedding_sha256="2" * 64,
        temperature=2.0,
    )
    return network, spec
