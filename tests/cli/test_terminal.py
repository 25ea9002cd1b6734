"""What people see on a terminal, and where it goes when only stderr is one."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
MODEL = "fashionnet-lite"


def on_terminal(words: list[str], environment: dict[str, str], *, stdout: Path | None = None) -> str:
    """Run a command whose stderr, and unless a file is given whose stdout, is a terminal; what that shows."""
    ours, theirs = pty.openpty()
    shown = b""
    output = os.open(stdout, os.O_WRONLY | os.O_CREAT) if stdout else theirs
    process = subprocess.Popen(words, stdin=theirs, stdout=output, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # EIO: the other end was closed
        pass
    assert process.wait(timeout=300) == 0, shown
    os.close(ours)
    return shown.decode()


@pytest.fixture
def colourful(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color", "COLUMNS": "100"}


def test_one_image_is_a_card_and_several_are_a_table(
    command: list[str], colourful: dict[str, str], photos: Path
) -> None:
    card = on_terminal([*command, "predict", MODEL, str(photos / "a.jpg")], colourful)
    assert "60 x 80 pixels" in card
    for fact in ("category", "a garment", "compute", "ms: decode"):
        assert fact in card
    assert "┃" not in card
    table = on_terminal([*command, "predict", MODEL, str(photos / "a.jpg"), str(photos / "c.png")], colourful)
    assert "┃" in table
    assert "pixels" not in table


def test_csv_is_exact_for_programs_and_safe_on_a_terminal(
    command: list[str], colourful: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "a\x1b[31m.jpg"
    odd.write_bytes((photos / "a.jpg").read_bytes())
    words = [*command, "predict", MODEL, str(odd), "--format", "csv"]
    assert "a\\x1b[31m.jpg" in on_terminal(words, colourful)
    on_terminal(words, colourful, stdout=tmp_path / "out")
    assert "a\x1b[31m.jpg" in (tmp_path / "out").read_text()


@pytest.mark.parametrize("words", [["--json"], ["--format", "csv"], ["--format", "coco"], []])
def test_results_go_to_stdout_while_a_bar_is_on_the_terminal(
    command: list[str], colourful: dict[str, str], photos: Path, tmp_path: Path, words: list[str]
) -> None:
    out = tmp_path / "out"
    shown = on_terminal([*command, "predict", MODEL, str(photos / "a.jpg"), *words], colourful, stdout=out)
    assert "a.jpg" in out.read_text()
    assert "a.jpg" not in shown
    if words == ["--json"]:
        assert json.loads(out.read_text())["width"] == 60


def test_no_color_is_obeyed(command: list[str], colourful: dict[str, str]) -> None:
    words = [*command, "--help"]
    assert "\x1b[" in on_terminal(words, colourful)
    plain = on_terminal(words, colourful | {"NO_COLOR": "1"})
    assert not [code for code in ("\x1b[3", "\x1b[9", "\x1b[1;3") if code in plain]  # colours, of any kind


def test_quiet_shows_no_progress(command: list[str], colourful: dict[str, str], photos: Path, tmp_path: Path) -> None:
    words = ["predict", MODEL, str(photos / "a.jpg"), "--json"]
    assert "predicting" in on_terminal([*command, *words], colourful, stdout=tmp_path / "out")
    assert "predicting" not in on_terminal([*command, "-q", *words], colourful, stdout=tmp_path / "out2")
