"""The file with the key."""

from pathlib import Path

import pytest

from fashion_infer.errors import UsageError
from fashion_infer.serve.keys import read_key


def test_a_key_is_read_without_the_line_break_behind_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sixteen-letters!\n")
    assert read_key(tmp_path / "key") == "sixteen-letters!"


@pytest.mark.parametrize("text", [" \n", "too-short", "two words of a key", "schlüssel-mit-umlaut"])
def test_an_unusable_key_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="must hold one key of at least 16 visible ASCII characters"):
        read_key(tmp_path / "key")


def test_a_key_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing cannot be read"):
        read_key(tmp_path / "missing")
