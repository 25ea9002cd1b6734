import dataclasses
import json
import logging
from pathlib import Path

import pytest

from fashion_infer.backends import calibration
from fashion_infer.backends.calibration import best_layout, cache_folder, measure
from fashion_infer.backends.onnxruntime import Layout
from fashion_infer.errors import ModelError

NOWHERE = Layout(5, 4, 3)  # what no measurement here gives


@pytest.fixture(autouse=True)
def two_free_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder, and two cores that count as free however busy the machine is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "usable_cores", lambda: 2)
    monkeypatch.setattr(calibration, "QUIET", 0.0)


def remembered() -> list[Path]:
    return list(cache_folder().glob("*"))


@pytest.mark.parametrize("cores", [1, 2, 3, 4])
def test_what_is_measured_shares_out_the_cores(cores: int, onnx_model: Path) -> None:
    layout, share = measure(onnx_model, cores)
    assert layout.threads in (1, 2, 4, cores)
    assert layout.lone_threads in (1, 2, 4, cores)
    assert layout.sessions == cores // layout.threads
    assert share > 0


def test_a_layout_is_measured_once_and_remembered(onnx_model: Path) -> None:
    layout = best_layout(onnx_model)
    [path] = remembered()
    assert json.loads(path.read_text()) == dataclasses.asdict(layout)
    path.write_text(json.dumps(dataclasses.asdict(NOWHERE)))
    assert best_layout(onnx_model) == NOWHERE


def test_another_model_or_machine_is_measured_anew(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best_layout(onnx_model)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(onnx_model.read_bytes())
    best_layout(copy)
    assert len(remembered()) == 1  # the same content, whatever its name
    copy.write_bytes(onnx_model.read_bytes() + b"\xba\x3e\x02\x08\x01")  # an unknown field, which ONNX skips
    best_layout(copy)
    assert len(remembered()) == 2
    monkeypatch.setattr(calibration, "cpu_name", lambda: "another processor")
    best_layout(onnx_model)
    assert len(remembered()) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sessions": 1}', '{"sessions": 1, "threads": 1, "more": 1}'])
def test_what_cannot_be_read_is_measured_again(text: str, onnx_model: Path) -> None:
    best_layout(onnx_model)
    [path] = remembered()
    path.write_text(text)
    layout = best_layout(onnx_model)
    assert json.loads(path.read_text()) == dataclasses.asdict(layout)


def test_on_a_busy_machine_nothing_is_remembered(
    onnx_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calibration, "QUIET", 100.0)
    with caplog.at_level(logging.INFO):
        best_layout(onnx_model)
    assert remembered() == []
    assert "was measured on a busy machine" in caplog.text


def test_a_folder_that_cannot_be_written(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert best_layout(onnx_model).sessions in (1, 2)
    assert "cannot be remembered, pass sessions and threads: " in caplog.text


def test_one_core_and_large_models_are_not_measured(onnx_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MAX_BYTES", 1000)
    assert best_layout(onnx_model) == Layout(1, 2, 2)
    monkeypatch.setattr(calibration, "usable_cores", lambda: 1)
    assert best_layout(onnx_model) == Layout(1, 1, 1)
    assert remembered() == []


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        best_layout(path)
