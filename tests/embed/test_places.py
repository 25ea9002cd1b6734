from pathlib import Path

import pytest

from fashion_infer.embed.places import RemoteFile, is_address, open_file, pictures_at
from fashion_infer.errors import ImageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two pictures in two folders, one with letters that an URI would escape, and a file that is none."""
    (tmp_path / "shoes" / "new #1").mkdir(parents=True)
    (tmp_path / "shoes" / "b.JPG").write_bytes(b"bb")
    (tmp_path / "shoes" / "new #1" / "a 100%?.png").write_bytes(b"aaaa")
    (tmp_path / "shoes" / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3://bucket/a.jpg", True),
        ("file:///a.jpg", True),
        ("a.jpg", False),
        ("/a/b.jpg", False),
        ("C:/a.jpg", False),
        ("photos://", True),
        ("1://a", False),
        ("a\n://b", False),
    ],
)
def test_what_is_an_address(name: str, expected: bool) -> None:
    assert is_address(name) is expected


def test_a_folder_elsewhere_gives_its_pictures_by_address(tree: Path) -> None:
    root = f"file://{tree}/shoes"
    addresses = pictures_at(root)
    assert addresses == [f"{root}/b.JPG", f"{root}/new #1/a 100%?.png"]
    assert pictures_at(f"{root}/") == addresses
    assert [RemoteFile(address).read(1000) for address in addresses] == [b"bb", b"aaaa"]


def test_a_file_is_read_as_far_as_asked(tree: Path) -> None:
    file = RemoteFile(f"file://{tree}/shoes/new #1/a 100%?.png")
    assert [file.read(3), file.read(3), file.read(3)] == [b"aaa", b"a", b""]
    with open_file(str(tree / "shoes" / "b.JPG")) as file:
        assert file.read() == b"bb"


def test_an_address_of_a_file_stands_for_itself_there_or_not(tree: Path) -> None:
    assert pictures_at(f"file://{tree}/shoes/b.JPG") == [f"file://{tree}/shoes/b.JPG"]
    assert pictures_at(f"file://{tree}/nothing.jpg") == [f"file://{tree}/nothing.jpg"]
    with pytest.raises(OSError, match=r"nothing\.jpg"):
        RemoteFile(f"file://{tree}/nothing.jpg").read(1)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nosuchscheme://host/a", "nosuchscheme://host/a cannot be read: .*nosuchscheme"),
        ("https://host/a.jpg", "it is a web address: download it first"),
    ],
)
def test_what_no_file_system_knows(address: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        pictures_at(address)


def test_a_folder_without_pictures(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(ImageError, match="empty holds no images"):
        pictures_at(f"file://{tree}/empty")
