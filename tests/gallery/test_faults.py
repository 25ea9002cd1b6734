"""Faults around a gallery, with real processes, real files and real kills.

KILLS=50 pytest tests/gallery/test_faults.py -k kill    kills each kind of work 50 times instead of 5 times
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from fashion_infer import Predictor
from fashion_infer.errors import GalleryError, GalleryLockedError
from fashion_infer.gallery import Gallery
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.lock import file_system_of
from tests.gallery.conftest import FACTS, row, vectors

ROOT = Path(__file__).parents[2]
KILLS = 5  # of the work on one gallery
GALLERIES = pytest.mark.parametrize("seed", range(int(os.environ.get("KILLS", KILLS)) // KILLS))

ADD = """
import sys
from fashion_infer import Predictor
from fashion_infer.gallery import Gallery
from fashion_infer.gallery import adding
adding.ROWS = 2
model, place, *photos = sys.argv[1:]
with Predictor(model, sessions=1, threads=1) as predictor, Gallery(place, predictor) as gallery:
    print("ready", flush=True)
    for outcome in gallery.adding(photos):
        print(outcome.status, outcome.id, flush=True)
"""
HOLD = """
import sys
from pathlib import Path
from fashion_infer.gallery.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
with store.writing():
    print("ready", flush=True)
    sys.stdin.read()
"""


def start(code: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
    """Start a process that runs this code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment, **options
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter."""
    folder = Path(mkdtemp(prefix="fashion-infer-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_that_is_no_gallery(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(GalleryError, match=r"is no gallery .* and not empty: give another folder"):
        Gallery(tmp_path, predictor)
    with pytest.raises(GalleryError, match=r"there is no gallery .*/nothing: fashion-infer index .*/nothing PHOTOS"):
        Gallery(tmp_path / "nothing")
    with pytest.raises(GalleryError, match="there is no gallery"):
        Gallery(tmp_path / "nothing", predictor, create=False)
    with pytest.raises(GalleryError, match="cannot be created"):
        Gallery(tmp_path / "note.txt" / "below", predictor)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "note.txt"]


def test_an_empty_folder_becomes_a_gallery(tmp_path: Path, predictor: Predictor) -> None:
    with Gallery(tmp_path, predictor) as gallery:
        assert len(gallery) == 0


def test_a_gallery_of_a_newer_release(filled: Callable[..., LocalStore]) -> None:
    store = filled(3)
    store.close()
    with sqlite3.connect(store.folder / "gallery.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE key = 'format'")
    connection.close()
    with pytest.raises(GalleryError, match="has format 2, this release of fashion-infer reads 1"):
        LocalStore(store.folder)


@pytest.mark.parametrize("damage", ["other", "head", "middle", "empty", "table"])
def test_a_damaged_gallery(filled: Callable[..., LocalStore], damage: str) -> None:
    store = filled(200)
    store.close()
    file = store.folder / "gallery.sqlite"
    data = bytearray(file.read_bytes())
    match damage:
        case "other":
            data[:] = b"not SQLite's at all " * 100
        case "head":
            data[:100] = bytes(100)
        case "middle":
            data[4096:] = os.urandom(len(data) - 4096)
        case "empty":
            data.clear()
        case "table":
            with sqlite3.connect(file) as connection:
                connection.execute("DROP TABLE meta")
            connection.close()
            data[:] = file.read_bytes()
    file.write_bytes(data)
    with pytest.raises(GalleryError, match=str(store.folder)) as error:
        reopened = LocalStore(store.folder)
        list(reopened)
        reopened.nearest(vectors(1).astype(np.float32), 5, None)
    assert "damaged" in str(error.value)


def test_a_half_deleted_gallery(filled: Callable[..., LocalStore]) -> None:
    store = filled(3)
    store.close()
    (store.folder / "gallery.sqlite").unlink()
    with pytest.raises(GalleryError, match=r"is half deleted: gallery\.sqlite, which holds its rows, is missing"):
        LocalStore(store.folder, FACTS)


def test_a_second_writer_is_told_who_holds_the_gallery(filled: Callable[..., LocalStore]) -> None:
    store = filled(3)
    holder = start(HOLD, store.folder)
    assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
    with (
        pytest.raises(GalleryLockedError, match=f"is being written by process {holder.pid} on .*: wait"),
        store.writing(),
    ):
        pass
    assert len(store) == 3  # reading goes on
    holder.kill()
    holder.wait()
    with store.writing():  # the lock of a killed process is free
        assert store.remove(["r000"]) == 1
    for pipe in (holder.stdout, holder.stdin):
        assert pipe is not None
        pipe.close()


def test_a_reader_beside_a_writer_sees_whole_transactions(filled: Callable[..., LocalStore]) -> None:
    store = filled(10)
    reader = LocalStore(store.folder)
    embeddings = vectors(10, seed=3)
    with store.writing():
        for turn in range(20):
            rows = [row(f"r{i:03}", embeddings[i], category=f"turn {turn}") for i in range(10)]
            store.write([r.id for r in rows], rows)
            candidates = reader.nearest(embeddings[:1].astype(np.float32), 20, None).candidates[0]
            assert {r.category for _, r in candidates} == {f"turn {turn}"}
            assert len(candidates) == 10
    reader.close()


def test_the_kinds_of_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: LocalStore) -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    monkeypatch.setattr("fashion_infer.gallery.lock.NETWORK", (file_system_of(tmp_path),))
    with pytest.raises(GalleryError, match="lies on a network file system"), store.writing():
        pass


READ = """
import mmap, os, sys
import numpy as np
from pathlib import Path
from fashion_infer.errors import GalleryError
from fashion_infer.gallery.local import LocalStore
os.setuid(65534)
store = LocalStore(Path(sys.argv[1]))
print(len(store), len(store.nearest(np.ones((1, 16), np.float32) / 4, 5, None).candidates[0]))
try:
    with store.writing():
        pass
except GalleryError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_read_only_folder_can_be_read(open_folder: Path) -> None:
    place = open_folder / "g"
    store = LocalStore(place, FACTS)
    with store.writing():
        store.write([], [row(f"r{i}", vector) for i, vector in enumerate(vectors(10))])
        store.settle()
    store.close()
    place.chmod(0o755)
    process = start(READ, place)
    output, _ = process.communicate(timeout=120)
    assert output.splitlines()[0] == "10 5"
    assert "cannot be written: Permission denied" in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_fills_in_the_middle(small_disk: Path) -> None:
    store = LocalStore(small_disk / "g", FACTS)
    embeddings = vectors(20_000)
    written = 0
    with pytest.raises(GalleryError, match="the disk is full; what was reported as written is kept"), store.writing():
        for start_at in range(0, 20_000, 200):
            store.write([], [row(f"r{i}", embeddings[i]) for i in range(start_at, start_at + 200)])
            written += 200
    assert 0 < written < 20_000
    assert len(store) == written
    with store.writing():
        store.settle()  # there is no room for an index: a warning is logged, and searches work without it
    assert len(store.nearest(embeddings[:1].astype(np.float32), 5, None).candidates[0]) == 5
    store.close()
    again = LocalStore(small_disk / "g")
    assert len(again) == written
    again.close()


def test_a_full_disk_refuses_a_new_gallery(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(2**21 - 4096))
    with pytest.raises(GalleryError, match=r"disk is full|cannot be created|disk I/O"):
        LocalStore(small_disk / "g", FACTS)


@GALLERIES
def test_kill_while_adding(
    tmp_path: Path, onnx_model: Path, photos: list[str], predictor: Predictor, seed: int
) -> None:
    place = tmp_path / "g"
    acknowledged: dict[str, str] = {}
    random = np.random.default_rng(seed)
    for _ in range(KILLS):
        process = start(ADD, onnx_model, place, *photos)
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(int(random.integers(1, 8))):
            if line := process.stdout.readline():
                status, id = line.split()
                acknowledged[id] = status
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().splitlines():
            acknowledged[line.split()[-1]] = line
        process.wait()
        process.stdout.close()
        process.stdin.close()
        with Gallery(place) as gallery:
            ids = [r.id for r in gallery]
            assert len(ids) == len(set(ids))  # no row is stored twice
            assert acknowledged.keys() <= set(ids)  # no reported row is lost
    with Gallery(place, predictor) as gallery:
        before = len(gallery)
        report = gallery.add(photos)
        assert (report.unchanged, report.added) == (before, 24 - before)  # no photo is computed twice
        assert [hit.id for hit in gallery.search(photos[5], limit=1)] == [photos[5]]


KILLED = """
import sys, time
from pathlib import Path
from fashion_infer.gallery import cache
from fashion_infer.gallery.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
with store.writing():
    print("ready", flush=True)
    if sys.argv[2] == "prune":
        for i in range(2000):
            store.remove([f"r{i}"])
    else:
        while True:
            cache.build(store.snapshot(), store, graph=True)
"""


@GALLERIES
@pytest.mark.parametrize("work", ["prune", "index"])
def test_kill_while_pruning_and_while_building_an_index(tmp_path: Path, work: str, seed: int) -> None:
    store = LocalStore(tmp_path / "g", FACTS)
    embeddings = vectors(3000)
    with store.writing():
        store.write([], [row(f"r{i}", embeddings[i]) for i in range(3000)])
        store.settle()
    random = np.random.default_rng(seed)
    for _ in range(KILLS):
        process = start(KILLED, store.folder, work)
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0, 0.3))
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
        reader = LocalStore(store.folder)
        kept = {r.id for r in reader}
        assert {f"r{i}" for i in range(2000, 3000)} <= kept
        candidates = reader.nearest(embeddings[2500:2501].astype(np.float32), 3, None).candidates[0]
        assert candidates[0][1].id == "r2500"
        assert all(r.id in kept for _, r in candidates)
        assert len(reader.snapshot()) == len(reader) == len(kept)
        reader.close()
    with store.writing():
        store.settle()
    assert not list((store.folder / "index").glob(".*"))
    store.close()


REBUILD = """
import sys, time
from fashion_infer import Predictor
from fashion_infer.gallery import Gallery, rebuild
rebuild.LOOKED_UP = 2
with Predictor(sys.argv[1], sessions=1, threads=1) as predictor, Gallery(sys.argv[2]) as gallery:
    print("ready", flush=True)
    for outcome in gallery.rebuilding(predictor):
        print(outcome.id, flush=True)
        time.sleep(0.1)
"""


@GALLERIES
def test_kill_while_rebuilding(
    tmp_path: Path, photos: list[str], predictor: Predictor, other_model: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    place = tmp_path / "g"
    with Gallery(place, predictor) as gallery:
        gallery.add(photos, payloads=[{"n": n} for n in range(24)])
    done: set[str] = set()
    for _ in range(KILLS):
        process = start(REBUILD, other_model, place)
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        done |= {process.stdout.readline().strip() for _ in range(int(random.integers(1, 4)))}
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
        with Gallery(place, predictor) as gallery:  # the old rows are searched until the end
            assert gallery.search(photos[3])[0].id == photos[3]
            assert len(gallery) == 24
    with Predictor(other_model) as other, Gallery(place) as gallery:
        rest = [outcome.id for outcome in gallery.rebuilding(other)]
        assert not done & set(rest)
        assert len(gallery) == 24
        assert gallery.facts.space == other.spec.embedding_space
    with Predictor(other_model) as other, Gallery(place, other) as gallery:
        assert gallery.search(photos[3])[0].id == photos[3]
        assert gallery.search(photos[3])[0].payload["n"] == 3


def test_two_processes_that_rebuild(tmp_path: Path, photos: list[str], predictor: Predictor, other_model: Path) -> None:
    place = tmp_path / "g"
    with Gallery(place, predictor) as gallery:
        gallery.add(photos)
    with Predictor(other_model) as other, Gallery(place) as first, Gallery(place) as second:
        outcomes = first.rebuilding(other)
        next(outcomes)
        with pytest.raises(GalleryLockedError, match=f"process {os.getpid()}"):
            next(second.rebuilding(other))
        assert 1 + len(list(outcomes)) == 24
        assert len(second) == 24  # the second gallery sees the new rows
