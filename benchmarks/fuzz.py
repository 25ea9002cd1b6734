"""Test the readers with randomly damaged images and annotations: `python benchmarks/fuzz.py`.

Pictures of 23 formats and the rows of DeepFashion's files are changed at random and given to `read_image`, the readers
and `data check`. Each case must give a result or a FashionInferError. Failures are any other error, a crash, more than
two seconds of CPU time, and a file about which `data check` and the reader disagree. Each process works on a part of
the cases; if it dies, its last input is kept. The script writes fuzz.json and fuzz.md.
"""

import io
import json
import os
import random
import resource
import shutil
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion_check import READERS, check, decode
from fashion_infer.errors import DataError, ImageError
from fashion_infer.files import write_atomically
from fashion_infer.images import read_image
from fashion_infer.synthetic.dataset import write_dataset

RESULTS = Path(__file__).parent / "results"
PART = 5000  # cases per process
PROCESS_LIMIT = 600  # CPU seconds per process, so that one that hangs ends
LIMIT = 2.0  # CPU seconds per case
BENCHMARKS = {
    "category": "category_attribute", "in_shop": "in_shop", "consumer_to_shop": "consumer_to_shop",
    "landmarks": "landmarks",
}  # fmt: skip
console = Console(stderr=True)


@dataclass
class Tally:
    """The outcomes of the cases of one format or benchmark."""

    outcomes: Counter[str] = field(default_factory=Counter)  # "read" or "refused"
    failures: list[str] = field(default_factory=list)  # messages, each with the case's number
    noisy: int = 0  # cases in which a library wrote to stderr
    slowest: float = 0.0  # CPU seconds
    memory: float = 0.0  # peak growth of the process's memory, MB

    def add(self, other: "Tally") -> None:
        """Add the cases of another process."""
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.noisy += other.noisy
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)


def main(
    images: Annotated[int, typer.Option(help="Number of damaged images.")] = 100_000,
    rows: Annotated[int, typer.Option(help="Least number of damaged rows of annotations.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed makes the same cases.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Run all cases; the exit code is 1 if any case fails."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        tallies = run_all(images, rows, seed, Path(scratch), output)
    facts = {"provenance": provenance(), "environment": environment(), "images": images, "rows": rows, "seed": seed}
    measured = {name: vars(tally) for name, tally in tallies.items()}
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "cases": measured}, indent=1) + "\n"
    write_atomically(output / "fuzz.json", lambda path: path.write_text(text))
    write_atomically(output / "fuzz.md", lambda path: path.write_text(table(tallies)))
    print(table(tallies))
    if failures := [f"{name}: {failure}" for name, tally in tallies.items() for failure in tally.failures]:
        console.print(*failures[:50], sep="\n", markup=False)
        raise typer.Exit(1)


def table(tallies: dict[str, Tally]) -> str:
    """Return a Markdown table with one line per format or benchmark."""
    lines = [
        "| | cases | read | refused | failures | slowest, s | memory, MB | with lines on stderr |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        counts = [tally.outcomes.total(), tally.outcomes["read"], tally.outcomes["refused"], len(tally.failures)]
        cells = [name, *(f"{count:,}" for count in counts), f"{tally.slowest:.2f}", f"{tally.memory:.0f}"]
        lines.append(f"| {' | '.join(cells)} | {tally.noisy:,} |")
    return "\n".join(lines) + "\n"


def run_all(images: int, rows: int, seed: int, scratch: Path, output: Path) -> dict[str, Tally]:
    """Run all parts, one after the other, each in its own process."""
    write_dataset(scratch / "set", images=8, seed=3, size=64, jobs=1, progress=False)
    tallies = {name: Tally() for name in (*FORMATS, *BENCHMARKS)}
    parts: list[tuple[Callable[..., dict[str, Tally]], int]] = []
    parts += [(damage_images, min(PART, images - start)) for start in range(0, images, PART)]
    parts += [(damage_rows, min(PART, rows - start)) for start in range(0, rows, PART)]
    for number, (work, count) in enumerate(track(parts, "damaging", console=console, transient=True)):
        context = get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                results = pool.submit(work, count, f"{seed}-{number}", scratch).result()
            except BrokenProcessPool:
                kept = output / f"fuzz-crash-{number}"
                shutil.copytree(scratch / "case", kept, dirs_exist_ok=True)
                results = {"JPEG": Tally(failures=[f"part {number} crashed: its last input is in {kept}"])}
        for name, tally in results.items():
            tallies[name].add(tally)
    return tallies


@contextmanager
def watched(tally: Tally, case: str, noise: io.FileIO) -> Iterator[None]:
    """Measure a case; an exception that reaches this block counts as a failure."""
    start, lines = process_time(), os.fstat(noise.fileno()).st_size
    try:
        yield
    except Exception as error:
        tally.failures.append(f"{case}: {type(error).__name__}: {error}"[:300])
    seconds = process_time() - start
    tally.slowest = max(tally.slowest, seconds)
    tally.noisy += os.fstat(noise.fileno()).st_size > lines
    if seconds > LIMIT:
        tally.failures.append(f"{case}: took {seconds:.1f} s")


@contextmanager
def set_up(scratch: Path) -> Iterator[io.FileIO]:
    """Limit the CPU time of this process, and redirect its stderr, also that of C libraries, to a file."""
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESS_LIMIT, PROCESS_LIMIT))
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata; only direct writes to stderr are counted
    with (scratch / "stderr").open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 2)
        yield file


def peak() -> float:
    """Return the peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


# ---- images


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Encode a picture with smooth and rough parts in a format of Pillow."""
    rough = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((64, 48)).convert("RGBA" if mode in ("RGBA", "PA") else "RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif image.mode != mode:
        image = image.quantize(16) if mode == "P" else image.convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def formats() -> dict[str, bytes]:
    """Make one file of each format: those that are read, and some that must be refused."""
    frames = {"save_all": True, "append_images": [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]}
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "JPEG": encoded("JPEG", quality=90),
        "JPEG, progressive": encoded("JPEG", progressive=True),
        "JPEG, grey": encoded("JPEG", "L"),
        "JPEG, CMYK": encoded("JPEG", "CMYK"),
        "JPEG, EXIF and restarts": encoded("JPEG", exif=exif.tobytes(), restart_marker_blocks=2),
        "MPO": encoded("MPO", **frames),
        "PNG": encoded("PNG", exif=exif.tobytes()),
        "PNG, palette": encoded("PNG", "P", transparency=3),
        "PNG, alpha": encoded("PNG", "RGBA"),
        "PNG, 16 bits": encoded("PNG", "I;16"),
        "PNG, animated": encoded("PNG", **frames),
        "GIF": encoded("GIF", "P"),
        "GIF, animated": encoded("GIF", **frames),
        "WebP": encoded("WEBP", exif=exif.tobytes()),
        "WebP, lossless with alpha": encoded("WEBP", "RGBA", lossless=True),
        "BMP": encoded("BMP"),
        "BMP, palette": encoded("BMP", "P"),
        "TIFF": encoded("TIFF", exif=exif),
        "TIFF, LZW": encoded("TIFF", compression="tiff_lzw"),
        "TIFF, JPEG": encoded("TIFF", compression="jpeg"),
        "TIFF, 16 bits": encoded("TIFF", "I;16", compression="tiff_adobe_deflate"),
        "AVIF (not read)": encoded("AVIF"),
        "EPS (not read)": encoded("EPS"),
    }


FORMATS = formats()
PNG = b"\x89PNG\r\n\x1a\n"
ODD_BYTES = (
    b"\xff\xd9", b"\xff\xda", b"\xff\xd8", b"\xff" * 64, b"\0" * 64, b"\x7f\xff\xff\xff", b"\x80\0\0\0",
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Make one to four random changes in a file, most of them small and near its beginning, where the headers are."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(data), rng.choice((64, 512, len(data)))))
        length = rng.choice((1, 1, 2, 4, 40))
        rest = data[place + length :]
        change = rng.randrange(7)
        if change < 3:
            data = data[:place] + rng.randbytes(length) + rest
        elif change == 3:
            data = data[:place] + rng.choice(ODD_BYTES) + rest
        elif change == 4:
            data = data[:place] + rest
        elif change == 5:
            data = data[:place] + data[place : place + length] * rng.choice((2, 3, 100)) + rest
        else:
            data = data[: rng.randrange(1, len(data) + 1)] + rng.choice((b"", b"\xff\xd9", b"IEND"))
        data = data or b"\0"
    return with_checksums(data) if data.startswith(PNG) and rng.random() < 0.7 else data


def with_checksums(png: bytes) -> bytes:
    """Correct the checksums of a PNG's chunks; otherwise decoders would refuse it before they reach the pixels."""
    chunks, place = [PNG], len(PNG)
    while place + 8 < len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        named = png[place + 4 : end]
        chunks.append(png[place : place + 4] + named + zlib.crc32(named).to_bytes(4, "big"))
        place = end + 4
    return b"".join(chunks)


def damage_images(count: int, seed: str, scratch: Path) -> dict[str, Tally]:
    """Give damaged images to `read_image` and to the image check of `data check`."""
    rng = random.Random(seed)
    tallies = {name: Tally() for name in FORMATS}
    path = scratch / "case" / "image"
    path.parent.mkdir(exist_ok=True)
    with set_up(scratch) as noise:
        read_image(FORMATS["PNG"]), read_image(FORMATS["JPEG"])
        before = peak()
        for case in range(count):
            name = rng.choice(tuple(FORMATS))
            tally, data = tallies[name], damaged(FORMATS[name], rng)
            path.write_bytes(data)
            with watched(tally, f"{seed}/{case}", noise):
                tally.outcomes[one_image(data, path, rng.choice((None, 8)))] += 1
            tally.memory = max(tally.memory, peak() - before)
    return tallies


def one_image(data: bytes, path: Path, side: int | None) -> str:
    """Read an image and return the outcome; the reader and `data check` must agree."""
    checked = decode(path)
    try:
        picture = read_image(data, side=side)
    except ImageError as error:
        if str(error) != f"the image {checked}":
            raise AssertionError(f"read_image says {error}, data check says {checked}") from error
        return "refused"
    height, width = picture.pixels.shape[:2]
    if checked != (picture.width, picture.height) or width > picture.width or height > picture.height:
        raise AssertionError(f"read_image gives {picture.pixels.shape}, data check says {checked}")
    return "read"


# ---- annotations

ODD_CELLS = (
    "", "-1", "0", "1", "2", "99999999999", "-99999999999", "9" * 5000, "1_0", "1e9", "nan", "0x10", "\u0661",
    "\ufeff1", "\udcff", "\x00", "\x1b[31m", "\u00a0", "\u2028", "id_", "id_99999999999", "id_-1", "train",
)  # fmt: skip


def damaged_row(row: str, rows: list[str], rng: random.Random) -> str:
    """Change one or two cells of a row, or replace it by another row."""
    cells = row.split() or [""]
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(cells) + 1)
        change = rng.randrange(7)
        if change < 3:
            cells[place : place + 1] = [rng.choice(ODD_CELLS)]
        elif change == 3:
            cells[place : place + 1] = []
        elif change == 4:
            cells.insert(place, rng.choice((*ODD_CELLS, *cells)) if cells else "1")
        elif change == 5:
            cells = rng.choice(rows).split()
        else:
            text = rng.choice((" ", "\t", "\r", "\n", "  ")).join(cells)
            place = rng.randrange(len(text) + 1)
            cells = [text[:place] + chr(rng.randrange(256)) + text[place + 1 :]]
    return "  ".join(cells)


def damage_rows(count: int, seed: str, scratch: Path) -> dict[str, Tally]:
    """Give damaged rows to the readers and `data check`, without images."""
    rng = random.Random(seed)
    tallies = {name: Tally() for name in BENCHMARKS}
    case = scratch / "case" / "annotations"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(scratch / "set", case, ignore=shutil.ignore_patterns("*.jpg"))
    files = {name: sorted((case / folder).rglob("*.txt")) for name, folder in BENCHMARKS.items()}
    with set_up(scratch) as noise:
        before, done = peak(), 0
        while done < count:
            name = rng.choice(tuple(BENCHMARKS))
            path = rng.choice(files[name])
            whole = path.read_bytes()
            rows = whole.decode().split("\n")
            for _ in range(number := rng.choice((1, 2, 4, 8))):
                place = rng.randrange(len(rows))
                rows[place] = damaged_row(rows[place], rows, rng)
            path.write_text("\n".join(rows), encoding="utf-8", errors="surrogateescape")
            with watched(tallies[name], f"{seed}/{done} {path.name}", noise):
                tallies[name].outcomes[one_set(name, case / BENCHMARKS[name])] += number
            path.write_bytes(whole)
            tallies[name].memory = max(tallies[name].memory, peak() - before)
            done += number
    return tallies


def one_set(name: str, folder: Path) -> str:
    """Read a set and return the outcome; if the reader refuses it, `data check` must report a problem."""
    report = check(folder, images=False)
    json.dumps(report.to_dict())
    report.lines()
    try:
        READERS[name](folder)
    except DataError as error:
        if report.ok:
            raise AssertionError(f"data check is content, the reader says {error}") from error
        return "refused"
    return "read"


if __name__ == "__main__":
    typer.run(main)
