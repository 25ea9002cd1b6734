"""What is there of DeepFashion in a folder, and what is wrong with it: behind `fashion-infer data check`."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from fashion_infer.data import annotations, deepfashion
from fashion_infer.data.annotations import Report
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError, ImageError
from fashion_infer.images import read_image
from fashion_infer.model_spec import LANDMARK_NAMES
from fashion_infer.preprocess import clip_box

OFFICIAL: dict[str, dict[str, int]] = {
    "category": {
        "images": 289_222,
        "train": 209_222,
        "val": 40_000,
        "test": 40_000,
        "categories": 50,
        "attributes": 1000,
    },
    "category_fine": {"categories": 50, "attributes": 26},
    "in_shop": {
        "images": 52_712,
        "train": 25_882,
        "query": 14_218,
        "gallery": 12_612,
        "items": 7_982,
        "attributes": 463,
    },
    "consumer_to_shop": {"images": 239_557, "pairs": 195_540, "items": 33_881, "attributes": 303},
    "landmarks": {"images": 123_016, "train": 83_033, "val": 19_992, "test": 19_991},
}
MARKERS = {  # files that only this benchmark has
    "category_fine": ("Anno_fine/*.txt",),
    "category": ("Anno*/list_category_*.txt", "Anno*/list_attr_img.txt"),
    "in_shop": ("Anno/*_inshop.txt",),
    "consumer_to_shop": ("Anno/*_consumer2shop.txt",),
    "landmarks": ("Anno/list_joints.txt", "Anno/list_landmarks.txt", "Anno/list_bbox.txt"),
}
READERS: dict[str, Callable[[Path], FashionData]] = {
    "category": partial(deepfashion.read_category, layout="coarse"),
    "category_fine": partial(deepfashion.read_category, layout="fine"),
    "in_shop": deepfashion.read_inshop,
    "consumer_to_shop": deepfashion.read_consumer_to_shop,
    "landmarks": deepfashion.read_landmarks,
}
LISTED = 20  # images named of those that are missing
VISIBLE, OCCLUDED = 0, 1  # visibilities of a landmark that has a place
Scan = Callable[[Path, Report], object]  # reads one file, every malformed row to the report
Decoded = str | tuple[int, int]  # what is wrong with an image, "missing" where it is not there; or its width and height


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a row (line from 1) or, with line None, a whole file or an image."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True)
class BenchmarkReport:
    """One benchmark of the folder; `counts` is empty when its files could not be read together."""

    benchmark: str  # a key of OFFICIAL
    root: str
    files: tuple[str, ...]  # found, relative to the root
    missing_files: tuple[str, ...]
    counts: dict[str, int]
    official_counts: dict[str, int]
    findings: tuple[Finding, ...]  # malformed rows, files that do not fit together, labels that do not fit their images
    missing_images: int
    first_missing_images: tuple[str, ...]
    unreadable_images: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Nothing is missing or broken; other counts than the official ones are no fault."""
        return not (self.missing_files or self.findings or self.missing_images or self.unreadable_images)

    @property
    def is_official(self) -> bool:
        """The counts are those of the published data set; False for Anno_fine, whose exact counts are not published."""
        return has_official_counts(self.benchmark, self.counts)

    def lines(self) -> list[str]:
        """What a person reads; of many findings the first ones."""
        known = self.official_counts
        counts = [f"{n} {c:,}" + (f" (official {known[n]:,})" if n in known else "") for n, c in self.counts.items()]
        findings = [*self.findings, *self.unreadable_images]
        wrong = [f"missing file {name}" for name in self.missing_files]
        wrong += [f"{finding}" for finding in findings[:LISTED]]
        if len(findings) > LISTED:
            wrong.append(f"... and {len(findings) - LISTED} more (all of them with --json)")
        if self.missing_images:
            wrong.append(f"{self.missing_images} images are missing, the first: {self.first_missing_images[0]}")
        title = f"{self.benchmark} in {self.root}" + ("" if self.counts else ": could not be read")
        return [title, *(f"  {line}" for line in counts), *(f"  wrong: {line}" for line in wrong)]


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    root: str
    benchmarks: tuple[BenchmarkReport, ...]

    @property
    def ok(self) -> bool:
        """There is a benchmark, and nothing is wrong with any."""
        return bool(self.benchmarks) and all(benchmark.ok for benchmark in self.benchmarks)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        benchmarks = [
            {**dataclasses.asdict(benchmark), "ok": benchmark.ok, "is_official": benchmark.is_official}
            for benchmark in self.benchmarks
        ]
        return {"root": self.root, "ok": self.ok, "benchmarks": benchmarks}

    def lines(self) -> list[str]:
        """What a person reads: each benchmark's counts beside the official ones, then what is wrong with it."""
        if not self.benchmarks:
            return [f"{self.root}: no benchmark of DeepFashion"]
        return [line for benchmark in self.benchmarks for line in benchmark.lines()]


def check(root: Path, *, images: bool = True, progress: bool = False) -> CheckReport:
    """Looks for benchmarks in `root` and in the folders in it, and examines each.

    Args:
        root: the folder of one benchmark, or of several.
        images: decodes every image; the annotations alone take seconds, the full set's images many minutes.
        progress: shows a bar on stderr while images are decoded.

    Raises:
        DataError: there is no such folder.
    """
    found = find_benchmarks(Path(root))
    return CheckReport(str(root), tuple(examine(folder, benchmark, images, progress) for folder, benchmark in found))


def find_benchmarks(root: Path) -> list[tuple[Path, str]]:
    """Folder and name of every benchmark in `root` and in the folders in it.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return [(folder, benchmark) for folder in folders for benchmark in benchmarks_in(folder)]


def has_official_counts(benchmark: str, counts: dict[str, int]) -> bool:
    """Whether a benchmark counts what the published one does; never for Anno_fine, whose counts are not published."""
    official = OFFICIAL[benchmark]
    return "images" in official and all(counts.get(name) == count for name, count in official.items())


def benchmarks_in(folder: Path) -> list[str]:
    """The benchmarks whose files lie in this very folder; landmark files alone make the landmark benchmark."""
    found = [name for name, patterns in MARKERS.items() if any(any(folder.glob(pattern)) for pattern in patterns)]
    if "category_fine" in found and not any(
        (folder / anno / "list_category_img.txt").exists() for anno in ("Anno", "Anno_coarse")
    ):
        found = [name for name in found if name != "category"]
    return found if found == ["landmarks"] else [name for name in found if name != "landmarks"]


def examine(root: Path, benchmark: str, images: bool, progress: bool) -> BenchmarkReport:
    """Reads one benchmark; where that fails, every one of its files by itself, to name all that is wrong."""
    scans = scans_of(root, benchmark)
    present = [path for path in scans if path.exists()]
    missing = [path for path in scans if not path.exists()]
    data, findings = None, []
    try:
        data = READERS[benchmark](root)
        findings = box_findings(data) + corner_findings(data)
    except DataError as error:
        findings = scan_files(root, {path: scans[path] for path in present})
        if not findings and not missing:
            findings = [Finding(str(root), None, str(error))]
    absent, unreadable, misplaced = examine_images(data, progress) if data and images else ([], [], [])
    findings += misplaced
    return BenchmarkReport(
        benchmark=benchmark,
        root=str(root),
        files=tuple(str(path.relative_to(root)) for path in present),
        missing_files=tuple(str(path.relative_to(root)) for path in missing),
        counts=count(root, benchmark, data) if data else {},
        official_counts=OFFICIAL[benchmark],
        findings=tuple(findings),
        missing_images=len(absent),
        first_missing_images=tuple(absent[:LISTED]),
        unreadable_images=tuple(unreadable),
    )


def scan_files(root: Path, scans: dict[Path, Scan]) -> list[Finding]:
    """Every malformed row of every file."""
    findings: list[Finding] = []

    def report(path: Path, line: int, message: str) -> None:
        findings.append(Finding(str(path.relative_to(root)), line, message))

    for path, scan in scans.items():
        try:
            scan(path, report)
        except DataError as error:
            findings.append(Finding(str(path.relative_to(root)), None, str(error)))
    return findings


def scans_of(root: Path, benchmark: str) -> dict[Path, Scan]:
    """The files that a benchmark's reader needs, and how each is read by itself."""
    if benchmark == "category_fine":
        return fine_scans(root)
    partition = {
        "category": table(annotations.parse_split, 1),
        "landmarks": table(annotations.parse_split, 1),
        "in_shop": table(annotations.parse_item_split, 2),
        "consumer_to_shop": lambda path, report: annotations.read_pairs(path, report=report),
    }[benchmark]
    common: dict[Path, Scan] = {deepfashion.partition_file(root): partition}
    if benchmark == "category":
        return common | category_scans(anno_folder(root))
    folder, suffix = (
        root / "Anno",
        {"in_shop": "_inshop", "consumer_to_shop": "_consumer2shop", "landmarks": ""}[benchmark],
    )
    boxes = annotations.integers(6, {0: (1, 3)}) if suffix else annotations.integers(4)
    common[folder / f"list_bbox{suffix}.txt"] = table(boxes, 6 if suffix else 4)
    common[folder / f"list_landmarks{suffix}.txt"] = table(annotations.parse_landmarks, 25)
    if suffix:
        common |= {
            path: lambda path, report: annotations.read_items(path, report=report)
            for path in deepfashion.item_files(folder)
        }
        common |= attribute_scans(*deepfashion.attribute_files(folder))
    return common


def anno_folder(root: Path) -> Path:
    """Where the thousand attributes lie."""
    return root / "Anno_coarse" if (root / "Anno_coarse").is_dir() and not (root / "Anno").is_dir() else root / "Anno"


def table(parse: annotations.ParseRow, width: int) -> Scan:
    """Reads a file of named rows."""
    return lambda path, report: annotations.read_table(path, parse, width, report=report)


def names(path: Path, report: Report) -> object:
    """Reads a file of names and types."""
    return annotations.read_typed_names(path, report=report)


def category_scans(folder: Path) -> dict[Path, Scan]:
    """The files of the category benchmark but for its partition."""
    return {
        folder / "list_category_cloth.txt": names,
        folder / "list_category_img.txt": table(annotations.integers(1, {0: (1, 50)}), 1),
        **attribute_scans(folder / "list_attr_cloth.txt", folder / "list_attr_img.txt"),
        folder / "list_bbox.txt": table(annotations.integers(4), 4),
        folder / "list_landmarks.txt": table(annotations.parse_landmarks, 25),
    }


def attribute_scans(*files: Path) -> dict[Path, Scan]:
    """A file of attribute names and the file of labels that goes with it; nothing for no files."""
    if not files:
        return {}
    cloth, rows = files

    def scan(path: Path, report: Report) -> None:
        if cloth.exists():
            width = len(annotations.read_typed_names(cloth, report=lambda *_: None)[0])
            annotations.read_labels(path, width, report=report)

    return {cloth: names, rows: scan}


def fine_scans(root: Path) -> dict[Path, Scan]:
    """The files of Anno_fine: its ready splits, or its lists where it has none."""
    folder = root / "Anno_fine"
    if not (folder / "train.txt").exists():
        return {deepfashion.partition_file(root): table(annotations.parse_split, 1), **category_scans(folder)}
    scans: dict[Path, Scan] = {
        folder / "list_category_cloth.txt": names,
        folder / "list_attr_cloth.txt": names,
        folder / "list_landmarks.txt": table(annotations.parse_landmarks, 25),
    }
    columns = {
        "_cate": (1, {0: (1, 50)}),
        "_bbox": (4, {}),
        "_landmarks": (16, {}),
        "_attr": (26, dict.fromkeys(range(26), (-1, 1))),
    }
    for split in deepfashion.READY_SPLITS:
        scans[folder / f"{split}.txt"] = lambda path, report: deepfashion.read_image_names(path)
        for part, (width, limits) in columns.items():
            scans[folder / f"{split}{part}.txt"] = unnamed(annotations.integers(width, limits), width)
    return scans


def unnamed(parse: annotations.ParseRow, width: int) -> Scan:
    """Reads a file of rows without names."""
    return lambda path, report: annotations.read_unnamed(path, parse, width, report=report)


def corner_findings(data: FashionData) -> list[Finding]:
    """Landmarks that are labelled at (0, 0), which is where files put those that are not there."""
    labelled = np.isin(data.visibility, (VISIBLE, OCCLUDED)) & (data.landmarks == 0).all(axis=2)
    return [
        Finding(data.images[row], None, f"{LANDMARK_NAMES[slot]} is labelled at (0, 0), the corner of the image")
        for row, slot in np.argwhere(labelled).tolist()
    ]


def box_findings(data: FashionData) -> list[Finding]:
    """Boxes without an area."""
    x1, y1, x2, y2 = data.boxes.T
    rows = np.flatnonzero((x2 <= x1) | (y2 <= y1)).tolist()
    return [Finding(data.images[row], None, f"box {data.boxes[row].astype(int).tolist()} has no area") for row in rows]


def count(root: Path, benchmark: str, data: FashionData) -> dict[str, int]:
    """Images in all and by split, and what else the official descriptions count."""
    counts = {"images": len(data)}
    counts |= {
        str(split): int(number)
        for split, number in zip(*np.unique(data.splits, return_counts=True), strict=True)
        if split
    }
    if data.category_names:
        counts["categories"] = len(data.category_names)
    if data.attribute_names:
        counts["attributes"] = len(data.attribute_names)
    if (data.items >= 0).any():
        counts["items"] = len(np.unique(data.items[data.items >= 0]))
    if benchmark == "consumer_to_shop":
        counts["pairs"] = len(annotations.read_pairs(deepfashion.partition_file(root)))
    return counts


def examine_images(data: FashionData, progress: bool) -> tuple[list[str], list[Finding], list[Finding]]:
    """The images that are not there, those that cannot be used, and the labels that do not fit their images."""
    absent, unreadable, misplaced = [], [], []
    decoded = decode_all(data.image_root, data.images)
    console = Console(stderr=True)
    for row, (name, result) in enumerate(track(decoded, "decoding", len(data), console=console, disable=not progress)):
        if result == "missing":
            absent.append(name)
        elif isinstance(result, str):
            unreadable.append(Finding(name, None, result))
        else:
            misplaced += place_findings(data, row, result)
    return absent, unreadable, misplaced


def decode_all(root: Path, images: Sequence[str]) -> Iterator[tuple[str, Decoded]]:
    """Each image's name and what became of it; a few thousand at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), 4096):
            some = images[start : start + 4096]
            yield from zip(some, pool.map(lambda name: decode(root / name), some), strict=True)


def decode(path: Path) -> Decoded:
    """Open an image just as training and judging do, a JPEG at an eighth of its size, which still reads all of it."""
    try:
        picture = read_image(path, side=1)
    except ImageError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return "missing" if missing else str(error).removeprefix(f"{path} ")
    return picture.width, picture.height


def place_findings(data: FashionData, row: int, size: tuple[int, int]) -> list[Finding]:
    """A box of some area that is not on its image, and landmarks that are labelled but lie outside it."""
    name, (width, height) = data.images[row], size
    findings = []
    try:
        if (data.boxes[row, 2:] > data.boxes[row, :2]).all():  # else it is a finding already
            clip_box(data.boxes[row], width, height)
    except ImageError as error:
        findings.append(Finding(name, None, str(error)))
    x, y = data.landmarks[row].T
    labelled = np.isin(data.visibility[row], (VISIBLE, OCCLUDED))
    for slot in np.flatnonzero(labelled & ((x < 0) | (y < 0) | (x > width) | (y > height))).tolist():
        place = f"({x[slot]:.0f}, {y[slot]:.0f})"
        message = f"{LANDMARK_NAMES[slot]} at {place} lies outside the {width} x {height} image"
        findings.append(Finding(name, None, message))
    return findings
