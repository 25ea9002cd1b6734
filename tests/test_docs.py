"""What the documents say runs: every command of README and --help, every Python block, every link."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from fashion_infer import cli
from fashion_infer.synthetic.dataset import to_jpeg, write_dataset
from fashion_infer.synthetic.rendering import render

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
ELSEWHERE = (  # too long for a test, or for a machine that CI is not
    "fashion-infer demo --train",  # make demo-train
    "fashion-infer bench fashionnet.onnx --images photos/ --report report/",  # tests/bench/test_command.py
    "fashion-infer bench fashionnet.onnx --compare old.json --fail-if 'e2e.p99>5%' --fail-if 'e2e.images_per_s<-5%'",
    "fashion-infer serve fashionnet-lite",  # tests/cli/test_serve.py: they end when they are told to
    "fashion-infer serve fashionnet.onnx --gallery shop.gallery --port 8080 --api-key-file key.txt",
    "fashion-infer serve fashionnet-lite --gallery shop.gallery",
    "fashion-infer train --data data/category_attribute -o run --arch vgg16 --precision bf16 --device cuda",  # a GPU
)


def help_examples() -> list[str]:
    """The example lines below every command's help."""
    commands = (*cli.app.registered_commands, *cli.data.app.registered_commands, *cli.gallery.app.registered_commands)
    texts = [command.callback.__doc__ or "" for command in commands if command.callback]
    assert all(" fashion-infer " in text for text in texts), "every command's help has an example"
    return [line.strip() for text in texts for line in text.splitlines() if line.startswith("        fashion-infer ")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


LINES = [line for text in (*blocks("console"), *help_examples()) for line in text.splitlines()]
COMMANDS = [line.split("  #")[0].rstrip() for line in LINES if line.startswith("fashion-infer ")]  # without remarks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, onnx_model: Path) -> Iterator[Path]:
    """A place where the files that the examples name are there, and `fashion-infer` runs this checkout."""
    folder = tmp_path_factory.mktemp("docs")
    write_dataset(folder / "data", images=48, seed=0, size=96, progress=False)
    (folder / "run").mkdir()
    (folder / "photos").mkdir()
    for name in ("model.safetensors", "run/model.safetensors"):
        (folder / name).write_bytes(checkpoint.read_bytes())
    (folder / "fashionnet.onnx").write_bytes(onnx_model.read_bytes())
    for index, name in enumerate(("photo.jpg", "a.jpg", "b.jpg", *(f"photos/{i}.jpg" for i in range(16)))):
        (folder / name).write_bytes(to_jpeg(render(1, index, size=600)))
    (folder / "photos" / "dress.jpg").write_bytes(to_jpeg(render(1, 40, size=600)))
    products = [f"photos/{name}.jpg,{price},i{price // 20}" for price, name in enumerate((*range(16), "dress"))]
    (folder / "products.csv").write_text("\n".join(["path,price,item", *products]) + "\n")
    command = folder / "bin" / "fashion-infer"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from fashion_infer.cli import main; main()' \"$@\"\n")
    command.chmod(0o755)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", [c for c in dict.fromkeys(COMMANDS) if c not in ELSEWHERE])
def test_a_command_runs_as_printed(folder: Path, command: str) -> None:
    result = run(folder, "sh", "-c", command)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs_as_printed(folder: Path, code: str) -> None:
    result = run(folder, sys.executable, "-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr


def test_the_picture_of_results_is_made_as_said(folder: Path) -> None:
    result = run(folder, sys.executable, str(ROOT / "docs" / "results.py"), "results.jpg")
    assert result.returncode == 0, result.stderr
    made, kept = (cv2.imread(str(place)) for place in (folder / "results.jpg", ROOT / "docs" / "results.jpg"))
    assert made is not None
    assert kept is not None
    assert made.shape == kept.shape


def test_the_commands_that_run_elsewhere_are_still_there() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", document.read_text())
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []
