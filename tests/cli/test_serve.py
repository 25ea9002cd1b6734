"""`fashion-infer serve`: what it refuses before it listens; tests/serve has the rest."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fashion_infer import Gallery, Predictor
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.rows import Facts
from fashion_infer.models import find_model
from tests.serve.conftest import started

Run = Callable[..., Any]


@pytest.fixture
def model() -> Path:
    """A real model that is there without torch."""
    return find_model("fashionnet-lite")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--root-path", "fashion"], 2, "must begin with /"),
        (["--root-path", "/fashion/"], 2, "must begin with /"),
        (["--api-key-file", "missing.txt"], 2, "missing.txt cannot be read"),
        (["--api-key-file", "short.txt"], 2, "at least 16 visible ASCII"),
        (["--host", "no.such.host.invalid"], 2, "cannot listen on no.such.host.invalid"),
        (["--gallery", "missing.gallery"], 3, "missing.gallery"),
    ],
)
def test_what_it_refuses(run: Run, fails: Run, model: Path, tmp_path: Path, arguments, code, message) -> None:
    (tmp_path / "short.txt").write_text("short\n")
    fails(run("serve", model, "--threads", "1", "--port", "0", *arguments, folder=tmp_path), code, message)


def test_a_port_that_is_taken(run: Run, fails: Run, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run("serve", model, "--threads", "1", "--port", listener.getsockname()[1])
    fails(result, 2, "Address already in use")


def test_a_gallery_of_another_model_is_refused(run: Run, fails: Run, model: Path, tmp_path: Path) -> None:
    LocalStore(tmp_path / "g", Facts("0123456789abcdef", 256, "other.onnx", "00", {})).close()
    fails(run("serve", model, "--threads", "1", "--gallery", tmp_path / "g"), 3, "compute all embeddings again")


def test_the_examples_of_its_help_serve(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(model, "fashionnet.onnx")
    Path("key.txt").write_text("a-key-of-some-length\n")
    with Predictor("fashionnet.onnx", threads=1) as predictor:
        Gallery("shop.gallery", predictor).close()
    for words in (["fashionnet-lite"], ["fashionnet.onnx", "--gallery", "shop.gallery", "--api-key-file", "key.txt"]):
        server = started([*words, "--port", "0"])  # 8000 and 8080 may be taken
        assert server.stop() == 0


def test_ctrl_c_is_a_stop_too(model: Path) -> None:
    server = started([str(model), "--port", "0", "--threads", "1"])
    assert server.stop(signal.SIGINT) == 0


def test_the_module_of_the_command_needs_no_extra(command: list[str], environment: dict[str, str]) -> None:
    result = subprocess.run([*command, "serve", "--help"], capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0
    assert "Ray Serve" in result.stdout
