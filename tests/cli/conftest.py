"""The command line as people run it: a process, its output and its exit code."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fashion_infer.synthetic.dataset import write_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The first words of a command line that runs this checkout."""
    return [sys.executable, "-c", "from fashion_infer.cli import main; main()"]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(command: list[str], environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command in a folder, the current one unless another is given."""

    def run(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        words = [*command, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)

    return run


@pytest.fixture(scope="session")
def fails() -> Callable[[subprocess.CompletedProcess[str], int, str], None]:
    """Asserts that a command ended with an exit code and one message of ours."""

    def fails(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
        assert result.returncode == code, result.stderr
        assert message in result.stderr
        assert "Traceback" not in result.stderr

    return fails


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good photos and a bad one."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "c.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (80, 60, 3), dtype=np.uint8))
    (folder / "b.jpg").write_text("this is no picture")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rendered pictures, the four benchmarks."""
    root = tmp_path_factory.mktemp("cli") / "set"
    write_dataset(root, images=40, seed=5, size=64, jobs=1, progress=False)
    return root
