"""`fashion-infer doctor`; what it finds is in tests/test_doctor.py."""

import json
from collections.abc import Callable
from typing import Any


def test_doctor(run: Callable[..., Any]) -> None:
    result = run("doctor", "--json")
    assert result.returncode == 0
    facts = json.loads(result.stdout)
    assert facts["installed"]["onnxruntime"]
    assert facts["backends"][0]["works"]
    shown = run("doctor")
    assert shown.returncode == 0
    for backend in facts["backends"]:  # to the letter: an extra's name is in brackets
        assert f"{backend['name']}\t{'yes' if backend['works'] else 'no'}\t{backend['detail']}" in shown.stdout
