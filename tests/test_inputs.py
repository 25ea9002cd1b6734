import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from fashion_infer.errors import ImageError
from fashion_infer.inputs import expand_inputs, expand_paths


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.webp", "sub/deep/d.tiff", "empty/readme.md", "odd[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], []),
        (["b.jpg"], ["b.jpg"]),
        (["b.jpg", "a.PNG"], ["b.jpg", "a.PNG"]),  # in the order given
        (["missing.jpg"], ["missing.jpg"]),  # whoever reads it says what is wrong
        (["notes.txt"], ["notes.txt"]),
        (["."], ["a.PNG", "b.jpg", "odd[1].jpg", "sub/c.webp", "sub/deep/d.tiff"]),
        (["sub"], ["sub/c.webp", "sub/deep/d.tiff"]),
        (["sub/"], ["sub/c.webp", "sub/deep/d.tiff"]),
        (["*.jpg"], ["b.jpg", "odd[1].jpg"]),
        (["?.jpg"], ["b.jpg"]),
        (["[ab].*"], ["a.PNG", "b.jpg"]),
        (["odd[1].jpg"], ["odd[1].jpg"]),
        (["**/*.webp"], ["sub/c.webp"]),
        (["sub/**/*"], ["sub/c.webp", "sub/deep/d.tiff"]),
        (["*/*.webp", "b.jpg"], ["sub/c.webp", "b.jpg"]),
    ],
)
def test_expand_paths(inputs: list[str], expected: list[str], photos: Path) -> None:
    assert expand_paths(inputs) == expected
    absolute = [f"{photos}/{name}" for name in inputs]
    assert expand_paths(absolute) == [f"{photos}/{name}" for name in expected]


@pytest.mark.parametrize("pattern", ["empty", "*.bmp", "nowhere/**/*.jpg"])
def test_what_holds_no_images_is_named(pattern: str, photos: Path) -> None:
    for name in (pattern, f"{photos}/{pattern}"):
        with pytest.raises(ImageError, match="^" + re.escape(name) + r" holds no images \(\.apng, "):
            expand_paths(["b.jpg", name])


def test_what_is_no_pattern_is_named(photos: Path) -> None:
    with pytest.raises(ImageError, match=r"^\*\*b\.jpg (is not a pattern|holds no images)"):
        expand_paths(["**b.jpg"])


def test_each_argument_is_expanded_by_itself(photos: Path) -> None:
    (photos / "emp").mkdir()  # empty too, and the beginning of another's name
    bad = ["empty", "emp", "none/*.jpg", "https://a.b/c.jpg?d=[1]", "**b.jpg", "nowhere/**/*.jpg"]
    inputs = expand_inputs([*bad, "b.jpg", "x" * 300 + ".jpg", "sub"])
    assert inputs.paths == ["b.jpg", "x" * 300 + ".jpg", "sub/c.webp", "sub/deep/d.tiff"]
    assert list(inputs.errors) == bad
    assert all(str(error).startswith(name) for name, error in inputs.errors.items())
    assert "is an address: download it" in str(inputs.errors["https://a.b/c.jpg?d=[1]"])


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
def test_a_folder_gives_whatever_begins_like_a_picture(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("without", "IMG.0001", "a.jfif", "b.jpe", "c.mpo", "d.heic"):
        (tmp_path / name).write_bytes(picture(kind))
    assert len(expand_paths([str(tmp_path)])) == 6
    assert not caplog.records


def test_what_a_folder_passes_over_is_counted_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.jpg").write_bytes(picture("JPEG"))
    for name in ("b.heic", "sub/c.HEIC", "d.txt", "notes", "e.jp2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"something else")
    os.mkfifo(tmp_path / "pipe.jpg")
    with caplog.at_level(logging.WARNING):
        assert expand_paths([str(tmp_path)]) == [str(tmp_path / "a.jpg")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: passed over 6 of 7 files: 1 (not a regular file), 2 .heic (no decoder for it), "
        "1 .jp2 (no decoder for it), 1 .txt (not an image), 1 without a suffix (not an image)"
    ]


def test_linked_folders_are_followed_once_and_dead_links_are_not_silent(tmp_path: Path) -> None:
    album, other = tmp_path / "album", tmp_path / "other"
    album.mkdir()
    other.mkdir()
    (album / "a.jpg").write_bytes(picture("JPEG"))
    (other / "b.jpg").write_bytes(picture("JPEG"))
    (album / "linked").symlink_to(other)
    (other / "back").symlink_to(album)
    (album / "dead.jpg").symlink_to("nowhere.jpg")
    assert expand_paths([str(album)]) == [str(album / name) for name in ("a.jpg", "dead.jpg", "linked/b.jpg")]


UNREADABLE = """
import json, os, sys
from fashion_infer.inputs import expand_inputs
if os.geteuid() == 0:
    os.setuid(65534)
inputs = expand_inputs(sys.argv[1:])
print(json.dumps([inputs.paths, {name: str(error) for name, error in inputs.errors.items()}]))
"""


def test_a_folder_that_cannot_be_listed_is_an_error_of_its_own(tmp_path: Path) -> None:

    with tempfile.TemporaryDirectory() as place:  # pytest's own folder is closed to other users
        root = Path(place)
        for name in ("open/a.jpg", "open/shut/b.jpg", "open/listed/d.jpg", "closed/c.jpg"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(picture("JPEG"))
        root.chmod(0o755)
        for name in ("open/shut", "closed"):
            (root / name).chmod(0)
        (root / "open/listed").chmod(0o444)
        arguments = [f"{root}/closed", f"{root}/open", f"{root}/closed/c.jpg"]
        result = subprocess.run(
            [sys.executable, "-c", UNREADABLE, *arguments], capture_output=True, text=True, check=False
        )
        for name in ("open/shut", "open/listed", "closed"):
            (root / name).chmod(0o755)
    paths, errors = json.loads(result.stdout)
    assert paths == [f"{root}/open/a.jpg", f"{root}/closed/c.jpg"]
    assert errors == {
        f"{root}/{name}": f"{root}/{name} cannot be read: Permission denied"
        for name in ("closed", "open/listed", "open/shut")
    }
