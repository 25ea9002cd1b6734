import dataclasses
import hashlib
import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.errors import EngineMismatchError, ModelError
from fashion_infer.model_spec import ModelSpec
from fashion_infer.tensorrt.engine_file import (
    EngineFile,
    batch_text,
    check_fingerprint,
    profiles_for,
    read_engine,
    side_file,
)

PLAN = b"vtrt, and native code"
FACTS = EngineFile(
    spec=ModelSpec("vgg16", 224, ("Tee",), ("floral",), ("texture",), 256, True, "w" * 64),
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    onnx_sha256="b" * 64,
    source="fashionnet.onnx",
    flavour="tensorrt",
    tensorrt="11.4.1",
    gpu="NVIDIA H100",
    compute_capability="9.0",
    precision="fp16",
    profiles=((1, 1, 4), (5, 32, 64)),
    activation_bytes=1 << 30,
    products={"node_conv": "Half"},
)
GOLDEN = """{
 "spec": {
  "arch": "vgg16",
  "image_size": 224,
  "categories": [
   "Tee"
  ],
  "attributes": [
   "floral"
  ],
  "attribute_groups": [
   "texture"
  ],
  "embedding_dim": 256,
  "trained": true,
  "weights_sha256": "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
"""
COMMAND = "fashion-infer export fashionnet.onnx --engine --flavour tensorrt --precision fp16 --batch 1:1:4,5:32:64"


def _write(folder: Path, facts: EngineFile = FACTS) -> Path:
    plan = folder / "net.sm90.plan"
    plan.write_bytes(PLAN)
    side_file(plan).write_text(facts.to_json())
    return plan


def test_the_json_is_for_people_too_and_is_read_back() -> None:
    text = FACTS.to_json()
    assert text.startswith(GOLDEN)
    assert EngineFile.from_json(text) == FACTS
    assert json.loads(text)["version"] == 2


@given(st.dictionaries(st.text(string.printable), st.text(max_size=5)))
def test_any_products_are_read_back(products: dict[str, str]) -> None:
    facts = dataclasses.replace(FACTS, products=products)
    assert EngineFile.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    ("max_batch", "profiles"),
    [
        (1, ((1, 1, 1),)),
        (3, ((1, 1, 3),)),
        (4, ((1, 1, 4),)),
        (5, ((1, 1, 4), (5, 5, 5))),
        (32, ((1, 1, 4), (5, 32, 32))),
    ],
)
def test_profiles_for_a_greatest_batch(max_batch: int, profiles: tuple[tuple[int, int, int], ...]) -> None:
    assert profiles_for(max_batch) == profiles
    ranges = [range(low, high + 1) for low, _, high in profiles]
    assert [size for sizes in ranges for size in sizes] == list(range(1, max_batch + 1))  # each size once
    assert batch_text(profiles) == ",".join(":".join(map(str, profile)) for profile in profiles)


def test_an_engine_and_its_description_are_read_together(tmp_path: Path) -> None:
    plan = _write(tmp_path)
    assert side_file(plan).name == "net.sm90.plan.json"
    assert read_engine(plan) == (PLAN, FACTS)


@pytest.mark.parametrize("data", [PLAN[:-1], PLAN + b"!", b"", PLAN.replace(b"code", b"evil")])
def test_a_plan_that_was_changed_is_refused(tmp_path: Path, data: bytes) -> None:
    plan = _write(tmp_path)
    plan.write_bytes(data)
    with pytest.raises(EngineMismatchError, match=f"truncated, was changed or is another file; run {COMMAND}"):
        read_engine(plan)


def test_a_plan_without_its_description_is_refused(tmp_path: Path) -> None:
    plan = _write(tmp_path)
    side_file(plan).unlink()
    with pytest.raises(EngineMismatchError, match=r"net.sm90.plan.json is missing.*fashion-infer export MODEL.onnx"):
        read_engine(plan)


def _with(**changes: object) -> str:
    return json.dumps(json.loads(FACTS.to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not one of ours"),
        ("[" * 100_000, "not one of ours"),
        ("[]", "not one of ours"),
        ("{}", "version None"),
        (_with(version=1), "version 1, this release of fashion-infer reads 2"),
        (_with(extra=1), "extra"),
        (_with(plan_sha256=5), "plan_sha256 is 5"),
        (_with(activation_bytes=True), "activation_bytes is True"),
        (_with(profiles=[[1, 2]]), "batch 1:2 is no range"),
        (_with(profiles=[["1", "2", "4"]]), "is no range"),
        (_with(profiles=[[4, 2, 8]]), "batch 4:2:8 is no range"),
        (_with(profiles=[]), "at least one range"),
        (_with(profiles=[1]), "not one of ours"),
        (_with(compute_capability="sm90"), "compute_capability is 'sm90'"),
        (_with(products=[1]), r"products is \[1\]"),
        (_with(spec={}), "ModelSpec has version None"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        EngineFile.from_json(text)
    plan = _write(tmp_path)
    side_file(plan).write_text(text)
    with pytest.raises(EngineMismatchError, match=message):
        read_engine(plan)


def test_a_description_that_is_no_text_is_refused(tmp_path: Path) -> None:
    plan = _write(tmp_path)
    side_file(plan).write_bytes(b"\xff\xfe")
    with pytest.raises(EngineMismatchError, match="cannot be read"):
        read_engine(plan)


def test_what_fits_passes() -> None:
    check_fingerprint(Path("p"), FACTS)
    check_fingerprint(Path("p"), FACTS, tensorrt="11.4.1", compute_capability=(9, 0), onnx_sha256="b" * 64)


def test_another_tensorrt_is_refused() -> None:
    with pytest.raises(
        EngineMismatchError, match=rf"was built by TensorRT 11.4.1 \(tensorrt\), but 11.4.2 is installed: run {COMMAND}"
    ):
        check_fingerprint(Path("p"), FACTS, tensorrt="11.4.2")


def test_another_onnx_file_is_refused() -> None:
    with pytest.raises(EngineMismatchError, match=f"was built from an ONNX file with sha256 bbb.*run {COMMAND}"):
        check_fingerprint(Path("p"), FACTS, onnx_sha256="c" * 64)


@pytest.mark.parametrize(
    ("built_for", "compute_capability", "fits"),
    [
        ("9.0", (9, 0), True),
        ("9.0", (8, 9), False),
        ("9.0", (12, 0), False),
        ("portable", (7, 5), True),
    ],
)
def test_the_gpus_an_engine_was_built_for(built_for: str, compute_capability: tuple[int, int], fits: bool) -> None:
    facts = dataclasses.replace(FACTS, compute_capability=built_for)
    if fits:
        check_fingerprint(Path("p"), facts, compute_capability=compute_capability)
        return
    with pytest.raises(EngineMismatchError, match=r"was built for compute capability .*, this GPU has \d+\.\d: run"):
        check_fingerprint(Path("p"), facts, compute_capability=compute_capability)


def test_the_command_that_builds_it_again() -> None:
    assert FACTS.rebuild_command == COMMAND
