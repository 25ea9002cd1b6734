"""The built-in models: found by name, whole, listed, and in the wheel."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from fashion_infer import ModelNotFoundError, Predictor
from fashion_infer.files import sha256_of
from fashion_infer.models import FOLDER, built_in, find_model
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render

ROOT = Path(__file__).parent.parent
NAME = "fashionnet-lite"
IN_GIT = 16e6  # bytes of all of them, at most


def run(*arguments: str | Path, folder: Path, package: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line in a folder, of the package that lies in another."""
    command = [sys.executable, "-P", "-c", "from fashion_infer.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(package), "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as its wheel holds it, and the wheel is built from the source archive."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("fashion_infer", "export"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    packed = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert packed.returncode == 0, packed.stderr
    (archive,) = (source / "dist").iterdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    built = subprocess.run([*pip, "-w", str(target), str(archive)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = target.glob("*.whl")
    with ZipFile(wheel) as whole:
        whole.extractall(target)
    return target


@pytest.mark.parametrize("name", built_in())
def test_what_is_listed_is_what_is_there(name: str) -> None:
    entry, path = built_in()[name], find_model(name)
    assert path == FOLDER / f"{name}.onnx"
    with Predictor(name) as predictor:
        spec = predictor.spec
        assert predictor.sha256 == entry.sha256
    assert (entry.image_size, entry.categories, entry.attributes) == (spec.image_size, spec.categories, spec.attributes)
    assert spec.trained
    assert spec.garment_weights is not None
    assert entry.bytes == path.stat().st_size
    assert entry.about
    assert entry.licence == "Apache-2.0"


def test_no_more_files_than_are_listed_and_no_more_bytes_than_git_should_hold() -> None:
    assert {path.stem for path in FOLDER.glob("*.onnx")} == set(built_in())
    assert NAME in built_in()
    assert sum(model.bytes for model in built_in().values()) <= IN_GIT


def test_a_name_that_is_none_is_answered_with_those_there_are(tmp_path: Path) -> None:
    for name in ("fashionnet", f"{NAME}.onnx", tmp_path / NAME):
        with pytest.raises(ModelNotFoundError, match=rf"there is no model file {name}: .*\({', '.join(built_in())}\)$"):
            find_model(name)


def test_a_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model(NAME).parent == FOLDER
    Path(NAME).touch()
    assert find_model(NAME) == Path(NAME)


def test_the_command_lists_them(tmp_path: Path) -> None:
    listed = json.loads(run("models", "--json", folder=tmp_path).stdout)
    assert list(listed) == list(built_in())
    assert listed[NAME]["sha256"] == sha256_of(find_model(NAME))
    table = run("models", folder=tmp_path)
    assert table.returncode == 0, table.stderr
    assert all(name in table.stdout for name in built_in())  # whole, in a window of 80 columns too


def test_every_command_that_takes_a_model_takes_a_name(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(to_jpeg(render(1, 0)))
    (line,) = run("predict", NAME, "photo.jpg", "--json", folder=tmp_path).stdout.splitlines()
    assert 0 < json.loads(line)["is_garment"] < 1
    assert json.loads(run("inspect", NAME, "--json", folder=tmp_path).stdout)["precision"] == "fp32"
    assert run("eval", NAME, "--data", ".", folder=tmp_path).stderr.startswith("error: . holds no benchmark")
    timed = run("bench", NAME, "--quick", "--seconds", "1", "--json", "--images", ".", folder=tmp_path)
    assert json.loads(timed.stdout)["model"]["sha256"] == built_in()[NAME].sha256


def test_what_is_exported_from_a_name_lies_in_the_folder_one_is_in(tmp_path: Path) -> None:
    before = sorted(FOLDER.iterdir())
    exported = run("export", NAME, "--precision", "fp16", folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.fp16.onnx"]
    assert sorted(FOLDER.iterdir()) == before
    nothing = run("predict", "fashionnet", "photo.jpg", folder=tmp_path)
    assert nothing.returncode == 2
    assert NAME in nothing.stderr


def test_the_wheel_holds_them_and_a_damaged_one_is_said(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(to_jpeg(render(1, 0)))
    package = installed / "fashion_infer" / "models"
    assert {path.name for path in package.iterdir()} == {path.name for path in FOLDER.iterdir() if path.is_file()}
    good = run("predict", NAME, "photo.jpg", folder=tmp_path, package=installed)
    assert good.returncode == 0, good.stderr
    whole = (package / f"{NAME}.onnx").read_bytes()
    for damaged in (whole[:-1], whole[:5000] + b"?" + whole[5001:], None):
        (package / f"{NAME}.onnx").unlink()
        if damaged is not None:
            (package / f"{NAME}.onnx").write_bytes(damaged)
        bad = run("predict", NAME, "photo.jpg", folder=tmp_path, package=installed)
        assert bad.returncode == 3
        assert f"the built-in model {NAME} is damaged" in bad.stderr
        assert "pip install --force-reinstall" in bad.stderr
    (package / f"{NAME}.onnx").write_bytes(whole)


def test_a_model_is_put_into_the_package(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = ["-P", "-m", "fashion_infer.export.built_in", "tiny", find_model(NAME), "--about", "A small one."]
    added = subprocess.run(
        [sys.executable, *map(str, program)], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300
    )
    assert added.returncode == 0, added.stderr
    listed = json.loads(run("models", "--json", folder=tmp_path, package=installed).stdout)
    assert list(listed) == [*built_in(), "tiny"]
    assert listed["tiny"]["about"] == "A small one."
    assert listed["tiny"]["precision"] == "fp32"
    assert listed["tiny"]["bytes"] == pytest.approx(built_in()[NAME].bytes, rel=0.01)  # packed again
    facts = json.loads(run("inspect", "tiny", "--json", folder=tmp_path, package=installed).stdout)
    assert facts["sha256"] == listed["tiny"]["sha256"]
    assert facts["parity"]["images"] == 64
    assert max(facts["parity"]["differences"].values()) <= 0.01
