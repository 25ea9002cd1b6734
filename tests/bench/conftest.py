"""What the benchmark's tests share: encoded images and one result of a real, short run."""

from pathlib import Path

import cv2
import pytest

from fashion_infer.bench.result import BenchResult
from fashion_infer.bench.run import bench_model
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    return [to_jpeg(render(7, index)) for index in range(3)]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, jpegs: list[bytes]) -> Path:
    """A folder of three JPEGs and a PNG."""
    folder = tmp_path_factory.mktemp("photos")
    for index, data in enumerate(jpegs):
        (folder / f"{index}.jpg").write_bytes(data)
    cv2.imwrite(str(folder / "grey.png"), cv2.imread(str(folder / "0.jpg"), cv2.IMREAD_GRAYSCALE))
    return folder


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of `result` keeps the load generator's logs."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="session")
def result(onnx_model: Path, photos: Path, logs: Path) -> BenchResult:
    """Of two process starts with everything in them, a few seconds in all."""
    return bench_model(onnx_model, photos, starts=2, seconds=4, logs=logs, threads=1)
