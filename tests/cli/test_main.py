"""The parts that no single command owns: the version, the help, and errors as exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fashion_infer


def test_the_version(run: Callable[..., Any]) -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"{fashion_infer.__version__}\n")


def test_help_names_every_command(run: Callable[..., Any]) -> None:
    shown = run("--help").stdout
    assert all(
        command in shown
        for command in ("predict", "export", "inspect", "bench", "models", "doctor", "train", "data", "demo")
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "nothing.onnx", "a.jpg"], 2, "there is no model"),
        (["predict", "{bad_model}", "a.jpg"], 3, "is not an ONNX file"),
        (["predict", "{onnx_model}", "nothing.jpg"], 4, "nothing.jpg cannot be read: No such file or directory"),
        (["predict", "{onnx_model}", "{empty}"], 4, "holds no images"),
        (["predict", "{onnx_model}", "a.jpg", "--device", "tpu"], 3, "unknown device 'tpu'"),
        (["predict", "{onnx_model}", "a.jpg", "--max-batch", "0"], 2, "max_batch must be a whole number of at least 1"),
        (["predict", "{onnx_model}"], 2, "Missing argument 'inputs'"),
        (["inspect", "nothing.onnx"], 2, "there is no model file nothing.onnx"),
        (["inspect", "{bad_model}"], 3, "is not an ONNX file"),
        (["bench", "{onnx_model}", "--quick", "--starts", "5"], 2, "--quick has one process start"),
        (["eval", "m.safetensors", "--data", ".", "--threads", "2"], 2, "leave --backend and --threads out"),
        (["export", "nothing.safetensors"], 2, "there is no model file nothing.safetensors"),
        (["export", "{bad_model}"], 3, "{bad_model} is not"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_an_exit_code(
    run: Callable[..., Any],
    fails: Callable[..., None],
    arguments: list[str],
    code: int,
    message: str,
    onnx_model: Path,
    tmp_path: Path,
) -> None:
    places = {"onnx_model": onnx_model, "bad_model": tmp_path / "bad.onnx", "empty": tmp_path / "empty"}
    places["bad_model"].write_text("no model")
    places["empty"].mkdir()
    result = run(*(argument.format(**places) for argument in arguments), folder=tmp_path)
    fails(result, code, message.format(**places))


def test_options_are_read_without_torch_onnx_or_a_runtime(command: list[str], environment: dict[str, str]) -> None:
    names = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt_rtx", "matplotlib", "skimage")
    absent = "import sys; " + "; ".join(f"sys.modules[{name!r}] = None" for name in names)
    for words in (["--help"], ["predict", "--help"], ["export", "--help"], ["train", "--help"], ["bench", "--help"]):
        program = [*command[:2], f"{absent}; {command[2]}", *words]
        result = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=60)
        assert result.returncode == 0, result.stderr


def test_it_runs_as_a_module(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "fashion_infer", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (result.returncode, result.stdout) == (0, f"{fashion_infer.__version__}\n")


def test_what_is_loaded_is_said_when_asked(run: Callable[..., Any], photos: Path) -> None:
    words = ("predict", "fashionnet-lite", photos / "a.jpg", "--json")
    assert run(*words).stderr == ""
    assert "fashionnet-lite.onnx, sha256 " in (messages := run("-v", *words).stderr)
    assert "OnnxRuntimeBackend on cpu, sessions: " in messages


def test_quiet_leaves_errors_only(run: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    (tmp_path / "b.heic").write_bytes(b"-")
    words = ("predict", "fashionnet-lite", tmp_path, "--json")
    assert "skipped" in run(*words).stderr
    assert run("-q", *words).stderr == ""
    assert "error: " in run("-q", "predict", "fashionnet-lite", photos / "b.jpg").stderr


def test_options_without_a_command_and_contradictions(run: Callable[..., Any], fails: Callable[..., None]) -> None:
    fails(run("-v"), 2, "there is no command")
    fails(run("-v", "-q", "doctor"), 2, "--verbose and --quiet contradict each other")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(command: list[str], environment: dict[str, str], shell: str) -> None:
    settings = environment | {"_FASHION_INFER_COMPLETE": f"source_{shell}"}
    program = [*command[:2], f"import sys; sys.argv[0] = 'fashion-infer'; {command[2]}"]
    result = subprocess.run(program, capture_output=True, text=True, env=settings, timeout=60)
    assert f"_FASHION_INFER_COMPLETE=complete_{shell}" in result.stdout


def test_bash_completes_commands_and_models(command: list[str], environment: dict[str, str]) -> None:
    def complete(line: str) -> list[str]:
        settings = {"_FASHION_INFER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        program = [*command[:2], f"import sys; sys.argv[0] = 'fashion-infer'; {command[2]}"]
        result = subprocess.run(program, capture_output=True, text=True, env=environment | settings, timeout=60)
        return result.stdout.split()

    assert complete("fashion-infer pre") == ["predict"]
    assert complete("fashion-infer predict fashionnet-lite-") == ["fashionnet-lite-int8"]
