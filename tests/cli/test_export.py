"""`fashion-infer export` of a checkpoint; engines are in tests/tensorrt, int8 in tests/export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_export_prints_its_parity_and_writes_beside_the_checkpoint(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    result = run("export", copy, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["parity"]["same_cells"] > 0.5
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "1:2:3"], "--flavour and --batch are of an engine: add --engine"),
        (["--flavour", "rtx"], "--flavour and --batch are of an engine: add --engine"),
        (["--precision", "int8", "--budget", "0.1"], "--budget is of the metrics on --data: give both"),
        (["--precision", "int8", "--images", "."], "--images is for the parity check: int8 is compared"),
        (["--calibration", "."], "--calibration and --data go with --precision int8"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(
    run: Callable[..., Any], fails: Callable[..., None], options: list[str], message: str, tmp_path: Path
) -> None:
    fails(run("export", "fashionnet-lite", *options, folder=tmp_path), 2, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--images", "-o"])
def test_an_option_of_a_conversion_that_is_not_needed(
    run: Callable[..., Any], fails: Callable[..., None], option: str, tmp_path: Path
) -> None:
    words = f"{option.replace('-o', '--output')} cannot be used, because fashionnet-lite has this precision already"
    fails(run("export", "fashionnet-lite", "--triton", "t", option, "x.onnx", folder=tmp_path), 2, words)
    assert not list(tmp_path.iterdir())


def test_options_of_int8_for_a_file_that_is_int8(
    run: Callable[..., Any], fails: Callable[..., None], tmp_path: Path
) -> None:
    options = ["--precision", "int8", "--calibration", ".", "--triton", "t"]
    words = "--calibration cannot be used, because fashionnet-lite-int8 has this precision already"
    fails(run("export", "fashionnet-lite-int8", *options, folder=tmp_path), 2, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "place"), [("-o", "/dev/full"), ("-o", "file/model.onnx"), ("--triton", "file/models")]
)
def test_what_cannot_be_written_is_one_sentence(
    run: Callable[..., Any], fails: Callable[..., None], onnx_model: Path, option: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = run("export", onnx_model, "--precision", "fp16", option, place, folder=tmp_path)
    fails(result, 1, f"{place} cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_files_name_is_printed_to_the_letter(run: Callable[..., Any], onnx_model: Path, tmp_path: Path) -> None:
    result = run("export", onnx_model, "--precision", "fp16", "-o", "c[/red]/:heart:[bold].onnx", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "c[/red]/:heart:[bold].onnx (" in result.stdout
    assert (tmp_path / "c[/red]" / ":heart:[bold].onnx").is_file()


def test_a_model_repository_of_a_built_in_model(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("export", "fashionnet-lite", "--triton", "models", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "models/fashionnet-lite (a model of Triton's)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    again = json.loads(run("export", "fashionnet-lite", "--triton", "models", "--json", folder=tmp_path).stdout)
    assert again["triton"] == ["models/fashionnet-lite"]


def test_a_model_repository_of_a_checkpoint_in_another_precision(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ["--precision", "fp16", "-o", "net.onnx", "--triton", "models"]
    result = run("export", checkpoint, *arguments, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "models" / "net" / "1" / "model.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_triton_has_no_engines_for_rtx(run: Callable[..., Any], fails: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    arguments = ["--engine", "--flavour", "rtx", "--triton", "models"]
    fails(run("export", "fashionnet-lite", *arguments, folder=tmp_path), 2, "Triton runs TensorRT's own engines only")
    assert not list(tmp_path.iterdir())
