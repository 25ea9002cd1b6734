import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fashion_infer
from fashion_infer.bench.environment import provenance

PACKAGE = Path(fashion_infer.__file__).parent
ASK = """
import sys
sys.path.insert(0, ".")
from fashion_infer.bench.environment import provenance
print(provenance()["commit"])
"""


def git(*arguments: object, folder: Path) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def commit_of(folder: Path, **environment: str) -> str:
    """What the copy of the package in this folder says."""
    command = [sys.executable, "-c", ASK]
    environment = {**os.environ, **environment}
    asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=60)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of somebody else's with one commit, and the package in a folder that it ignores."""
    git("init", "-q", folder=tmp_path)
    (tmp_path / ".gitignore").write_text("installed\n")
    git("add", ".", folder=tmp_path)
    git("commit", "-q", "-m", "one", folder=tmp_path)
    ignored = shutil.ignore_patterns("*.onnx", "export", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "installed" / "fashion_infer", ignore=ignored)
    return tmp_path


def test_the_commit_of_the_packages_own_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", provenance()["commit"])


def test_an_installed_package_does_not_take_the_commit_of_the_repository_around_it(repository: Path) -> None:
    assert commit_of(repository / "installed") == "None"


def test_the_variables_of_a_git_hook_name_no_other_repository(repository: Path, tmp_path: Path) -> None:
    own = repository / "installed"
    git("init", "-q", folder=own)
    git("add", ".", folder=own)
    git("commit", "-q", "-m", "two", folder=own)
    head = git("rev-parse", "HEAD", folder=own)
    assert commit_of(own, GIT_DIR=str(repository / ".git")) == head
    (own / "fashion_infer" / "errors.py").write_text("# changed\n" + (PACKAGE / "errors.py").read_text())
    assert commit_of(own) == f"{head}-dirty"


def test_the_command_keeps_only_the_last_name_of_absolute_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/bench.py", "/home/me/photos", "out/x.json", "--rows", "3"])
    assert provenance()["command"] == "bench.py photos out/x.json --rows 3"
