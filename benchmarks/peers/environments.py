"""A virtual environment for each peer, made once: their packages clash with each other's and with this project's."""

import json
import subprocess
import tomllib
import venv
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
CORE: list[str] = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]  # of the peers that run this package
ENVIRONMENTS = {
    "torch": ["torch==2.14.1", "torchvision==0.29.1", "timm>=1.0.20", "safetensors>=0.5", *CORE],
    "rtmlib": ["onnxruntime>=1.20", "numpy>=1.26", "opencv-python-headless>=4.10"],
    "openvino": ["openvino==2026.4.1", "numpy>=1.26", "opencv-python-headless>=4.10"],
    "ultralytics": [
        "torch==2.14.1",
        "torchvision==0.29.1",
        "ultralytics",
        "onnx>=1.18",
        "onnxslim",
        "onnxruntime>=1.20",
    ],
    "litserve": ["litserve>=0.2.13", "python-multipart>=0.0.20", "onnxruntime>=1.20", *CORE],
    "ours": ["onnxruntime>=1.20", "openvino==2026.4.1", "onnx>=1.18", *CORE],
}
HEADLESS = {"ultralytics"}  # asks for the cv2 with windows, which needs libraries that servers lack: replaced


def make_environment(name: str, folder: Path) -> Path:
    """Make the environment, or keep the one that was made of the same list.

    Args:
        name: a key of ENVIRONMENTS.
        folder: that holds the environments.

    Returns:
        Its Python.
    """
    root, requirements = folder / name, json.dumps(ENVIRONMENTS[name])
    python, stamp = root / "bin" / "python", root / "installed.json"
    if stamp.is_file() and stamp.read_text() == requirements:
        return python
    venv.create(root, clear=True, with_pip=True)
    _pip(python, "install", *ENVIRONMENTS[name])
    if name in HEADLESS:
        _pip(python, "uninstall", "--yes", "opencv-python")
        _pip(python, "install", "--force-reinstall", "--no-deps", "opencv-python-headless")
    stamp.write_text(requirements)
    return python


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)
