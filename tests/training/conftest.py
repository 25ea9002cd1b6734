"""A small rendered set and settings under which a run takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.synthetic.dataset import write_dataset
from fashion_infer.training.config import TrainConfig


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of 10 items, the four benchmarks."""
    root = tmp_path_factory.mktemp("training") / "set"
    write_dataset(root, images=40, seed=7, size=64, jobs=1, progress=False)
    return root


@pytest.fixture(scope="session")
def larger_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures in the layout of the Category and Attribute benchmark, with enough of some categories."""
    root = tmp_path_factory.mktemp("larger") / "set"
    write_dataset(root, images=200, seed=7, size=48, jobs=1, progress=False)
    return root / "category_attribute"


@pytest.fixture(scope="session")
def training(data_set: Path) -> FashionData:
    return read_category(data_set / "category_attribute").split("train")


@pytest.fixture(scope="session")
def validation(data_set: Path) -> FashionData:
    return read_category(data_set / "category_attribute").split("val")


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    """Seven steps of 28 pictures."""
    return TrainConfig(backbone="vgg16", image_size=32, width=0.03, epochs=1, batch_size=4, workers=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads would differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
