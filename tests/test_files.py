import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fashion_infer.errors import OutputError
from fashion_infer.files import cache_folder, check_place, sha256_of, write_atomically


def test_a_file_is_written_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_leave_a_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"

    def write(letter: str) -> None:
        for _ in range(300):
            write_atomically(path, lambda temporary: temporary.write_text(letter * 20_000))
            text = path.read_text()
            assert text == text[0] * 20_000

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(write, "abcd"))) == 4
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_place(tmp_path / "file")
    check_place(tmp_path / "new" / "folder" / "a.txt")
    assert not (tmp_path / "new").exists()
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(OutputError, match=r"a\.txt cannot be written: \S+file is not a folder that"):
            check_place(place)
    with pytest.raises(OutputError, match="something that is no regular file"):
        check_place(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_place_in_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from fashion_infer.files import check_place; os.setuid(54321); "
    code += f"check_place(Path({str(tmp_path / 'a')!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "not a folder that you may write to" in result.stderr


def test_the_users_umask_sets_the_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "b.txt", lambda temporary: temporary.write_text("new"))
    finally:
        os.umask(before)
    assert (tmp_path / "b.txt").stat().st_mode & 0o777 == 0o640


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"garment")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"garment").hexdigest()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fashion-infer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fashion-infer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that nobody knows")
def test_a_user_without_a_home_gets_a_temporary_cache_and_a_warning() -> None:
    code = "import os; from fashion_infer.files import cache_folder as f; os.setuid(54321); "
    code += "print(f(), f().is_dir(), f())"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    first, exists, second = result.stdout.split()
    assert (exists, first) == ("True", second)
    assert not Path(first).exists()  # deleted at the end of the process
    assert result.stderr.count("set HOME or XDG_CACHE_HOME") == 1
