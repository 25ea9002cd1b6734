"""Tests that run every command and example in README, guides and --help, and check every link."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from fashion_infer import Predictor, cli
from fashion_infer.synthetic.dataset import to_jpeg, write_dataset
from fashion_infer.synthetic.rendering import render

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MAIN = """
import sys
if sys.argv[1] == "bench":
    from fashion_infer.bench import run
    run.QUICK_SECONDS = 2.0
elif sys.argv[1] == "demo":
    from fashion_infer.demo import pictures
    pictures.BENCH_SECONDS = 0.5
elif sys.argv[1] == "train" and "--from" not in sys.argv:
    sys.argv += ["--width", "0.1"]
from fashion_infer.cli import main
main()
"""  # the command, which measures for a shorter time and trains a network with narrower heads
GENERATED = DOCS / "reference" / "commands.md"  # by `make docs`
WRITTEN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
DOCUMENTS = [*WRITTEN, *sorted(set(DOCS.rglob("*.md")) - {GENERATED})]
README = (ROOT / "README.md").read_text()
GUIDES = (  # pages whose commands a test runs, in this order
    *("index", "results_in_other_tools", "models", "training_guide"),
    *("export", "int8", "threads", "benchmarks"),
)
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
ELSEWHERE = (  # commands that take too long for a test, or need a machine that CI does not have
    "fashion-infer demo --train",  # make demo-train
    "fashion-infer bench fashionnet.onnx --images photos/ --report report/",  # tests/bench/test_command.py
    "fashion-infer bench fashionnet.onnx --compare old.json --fail-if 'e2e.p99>5%' --fail-if 'e2e.images_per_s<-5%'",
    "fashion-infer serve fashionnet-lite",  # tests/cli/test_serve.py: a server runs until it gets a signal
    "fashion-infer serve fashionnet.onnx --gallery shop.gallery --port 8080 --api-key-file key.txt",
    "fashion-infer serve fashionnet-lite --gallery shop.gallery",
    "fashion-infer train --data data/category_attribute -o run --arch vgg16 --precision bf16 --device cuda",  # GPU
)


def help_examples() -> list[str]:
    """The examples in the help of every command."""
    commands = (*cli.app.registered_commands, *cli.data.app.registered_commands, *cli.gallery.app.registered_commands)
    texts = [command.callback.__doc__ or "" for command in commands if command.callback]
    assert all(" fashion-infer " in text for text in texts), "every command's help has an example"
    return [line.strip() for text in texts for line in text.splitlines() if line.startswith("        fashion-infer ")]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


PRINTED = [block for page in GUIDES for block in blocks("console", (DOCS / f"{page}.md").read_text())]
LINES = [line for text in (*blocks("console"), *PRINTED, *help_examples()) for line in text.splitlines()]
COMMANDS = [line.split("  #")[0].rstrip() for line in LINES if line.startswith("fashion-infer ")]  # without comments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, onnx_model: Path) -> Iterator[Path]:
    """A folder with the files that the examples name, in which `fashion-infer` runs this checkout."""
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
    for index in range(12):
        path = folder / "own" / ("one" if index % 2 else "two") / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_jpeg(render(3, index, size=200)))
    products = [f"photos/{name}.jpg,{price},i{price // 20}" for price, name in enumerate((*range(16), "dress"))]
    (folder / "products.csv").write_text("\n".join(["path,price,item", *products]) + "\n")
    command = folder / "bin" / "fashion-infer"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{MAIN}' \"$@\"\n")
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


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_of_the_guides_runs_and_its_facts_hold(folder: Path, example: Path) -> None:
    assert "\nassert " in example.read_text()
    result = run(folder, sys.executable, "-W", "error", str(example))
    assert result.returncode == 0, result.stderr


def test_every_example_is_shown_somewhere() -> None:
    shown = "".join(document.read_text() for document in DOCUMENTS)
    assert [example.name for example in EXAMPLES if f"docs/examples/{example.name}:" not in shown] == []
    for name, part in re.findall(r'--8<-- "docs/examples/([a-z_]+\.py):([a-z]+)"', shown):
        example = (DOCS / "examples" / name).read_text()
        assert f"[start:{part}]" in example
        assert f"[end:{part}]" in example


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(folder: Path, notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert not any(cell.get("outputs") for cell in cells)
    result = run(folder, sys.executable, "-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr


def test_the_first_pages_card_shows_the_real_prediction() -> None:
    (card,) = blocks("text", (DOCS / "index.md").read_text())
    with Predictor("fashionnet-lite") as predictor:
        prediction = predictor.predict(DOCS / "figures" / "garment.jpg")
    assert prediction.category.name in card
    for label in prediction.attributes:
        assert label.name in card
    for point in prediction.landmarks:
        line = next(line for line in card.splitlines() if line.startswith(point.visibility))
        assert point.name.replace("_", " ") in line


@pytest.mark.parametrize("page", sorted((DOCS / "errors").glob("*Error.md")), ids=lambda path: path.stem)
def test_error_pages_quote_the_messages_of_the_code(page: Path) -> None:
    rooms = (ROOT / "fashion_infer", ROOT / "export")
    source = "".join(path.read_text() for room in rooms for path in room.rglob("*.py"))
    source = re.sub(r'"\n +f?"', "", source)  # joins messages that the code splits over several lines
    messages = re.findall(r"^\| `(.+?)` \|", page.read_text(), re.MULTILINE)
    parts = [part.strip(" :") for message in messages for part in message.split("...")]
    assert [part for part in parts if part not in source] == []


def test_the_script_makes_the_committed_figures(folder: Path) -> None:
    (folder / "figures").mkdir(exist_ok=True)
    result = run(folder, sys.executable, str(DOCS / "figures.py"), "figures")
    assert result.returncode == 0, result.stderr
    for committed in (DOCS / "figures").iterdir():
        pictures = [cv2.imread(str(path)) for path in (committed, folder / "figures" / committed.name)]
        assert [picture.shape for picture in pictures if picture is not None] == [pictures[0].shape] * 2  # type: ignore[union-attr]


def test_the_reference_of_commands_has_every_command_and_option(folder: Path) -> None:
    result = run(folder, sys.executable, str(DOCS / "commands.py"), "reference/commands.md")
    assert result.returncode == 0, result.stderr
    page = (folder / "reference" / "commands.md").read_text()
    for example in help_examples():
        assert example in page
    for command in ("predict", "gallery info", "data synth", "eval"):
        assert f"## fashion-infer {command}\n" in page
    for option in ("--save-vis", "--install-completion", "--verbose", "--where", "--no-gate"):
        assert f"`{option}`" in page


def test_the_script_makes_the_committed_picture_of_results(folder: Path) -> None:
    result = run(folder, sys.executable, str(ROOT / "docs" / "results.py"), "results.jpg")
    assert result.returncode == 0, result.stderr
    new, committed = (cv2.imread(str(path)) for path in (folder / "results.jpg", ROOT / "docs" / "results.jpg"))
    assert new is not None
    assert committed is not None
    assert new.shape == committed.shape


def test_the_commands_that_run_elsewhere_are_still_documented() -> None:
    assert set(ELSEWHERE) <= set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_are_not_broken(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", document.read_text())
    relative = [link.partition("{")[0].strip() for link in links if "://" not in link]
    missing = [link for link in relative if not (document.parent / link).exists()]
    assert missing == []
