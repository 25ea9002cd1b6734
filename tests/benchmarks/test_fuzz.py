"""benchmarks/fuzz.py, run short: whatever it finds fails here."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import FORMATS, Tally, damaged, one_image, watched

from fashion_infer.errors import ImageError
from fashion_infer.images import read_image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_damaged_images_and_rows_are_read_or_refused(tmp_path: Path) -> None:
    words = [sys.executable, SCRIPT, "--images", "1500", "--rows", "600", "--seed", "7", "-o", tmp_path]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    cases = json.loads((tmp_path / "fuzz.json").read_text())["cases"]
    counts = {name: sum(tally["outcomes"].values()) for name, tally in cases.items()}
    assert len(counts) == 23 + 4
    assert sum(counts.values()) >= 2100
    assert all(counts.values())
    assert (tmp_path / "fuzz.md").read_text() == result.stdout[:-1]


def test_every_format_is_read_undamaged_or_must_not_be() -> None:
    for name, data in FORMATS.items():
        if name.endswith("(not read)"):
            with pytest.raises(ImageError, match="is not an image of a kind read here"):
                read_image(data)
        else:
            assert sorted(read_image(data).pixels.shape) == [3, 48, 64], name


def test_the_same_seed_makes_the_same_cases() -> None:
    first, second = ([damaged(data, random.Random(3)) for data in FORMATS.values()] for _ in range(2))
    assert first == second
    assert sum(before != after for before, after in zip(FORMATS.values(), first, strict=True)) > 15


def test_a_wrong_error_is_a_failure_and_so_are_two_opinions(tmp_path: Path) -> None:
    tally = Tally()
    with (tmp_path / "stderr").open("wb", buffering=0) as noise:
        with watched(tally, "1/2", noise):
            raise KeyError("a bug")
        (tmp_path / "image").write_bytes(FORMATS["GIF"])
        with watched(tally, "1/3", noise):
            one_image(FORMATS["EPS (not read)"], tmp_path / "image", None)
    assert tally.failures[0] == "1/2: KeyError: 'a bug'"
    assert tally.failures[1].startswith("1/3: AssertionError: read_image says the image is not an image")
