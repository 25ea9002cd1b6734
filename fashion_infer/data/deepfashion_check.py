"""Checks of DeepFashion's benchmarks in a folder, for the command `fashion-infer data check`."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from fashion_infer.data import annotations, deepfashion
from fashion_infer.data.annotations import Report
from fashion_infer.data.benchmarks import OFFICIAL, READERS, count, find_benchmarks, has_official_counts
from fashion_infer.data.columns import partition_file
from fashion_infer.data.deepfashion2 import FOLDERS, read_garments
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.data.own_retrieval import CSV_NAME, read_retrieval
from fashion_infer.errors import DataError, ImageError
from fashion_infer.images import read_image
from fashion_infer.model_spec import LANDMARK_NAMES
from fashion_infer.preprocess import clip_box

NEEDED = {  # beginnings of the names of the files that a benchmark requires
    "category": ("list_eval_partition", "list_category"),
    "category_fine": ("list_eval_partition", "list_category", "train.", "train_cate", "val_cate", "test_cate"),
    "in_shop": ("list_eval_partition",),
    "consumer_to_shop": ("list_eval_partition",),
    "landmarks": ("list_eval_partition", "list_landmarks"),
    "retrieval": (CSV_NAME,),
    "deepfashion2": ("annos",),
}
LISTED = 20  # largest number of findings and of missing images that are listed
VISIBLE, OCCLUDED = 0, 1  # visibilities of a landmark that has a place
Scan = Callable[[Path, Report], object]  # reads one file and reports every malformed row
Decoded = str | tuple[int, int]  # the error of an image, "missing" if there is no file; or its width and height


@dataclass(frozen=True)
class Finding:
    """A fault of a row (line from 1) or, if the line is None, of a whole file or an image."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True)
class BenchmarkReport:
    """The result for one benchmark of the folder.

    Attributes:
        benchmark: name of the benchmark, a key of OFFICIAL.
        root: the benchmark's folder.
        files: existing files, relative to the folder.
        missing_files: required files that are missing.
        notes: sentences about other missing files and what is therefore neither trained nor judged.
        counts: number of images, categories and so on; {} if the files could not be read.
        official_counts: the same counts in the published data set.
        findings: malformed rows, files that do not fit together, and labels that do not fit their images.
        missing_images: number of missing images.
        first_missing_images: names of the first of them.
        unreadable_images: images that cannot be used.
    """

    benchmark: str
    root: str
    files: tuple[str, ...]
    missing_files: tuple[str, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]
    official_counts: dict[str, int]
    findings: tuple[Finding, ...]
    missing_images: int
    first_missing_images: tuple[str, ...]
    unreadable_images: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or faulty; the counts may differ from the official ones."""
        return not (self.missing_files or self.findings or self.missing_images or self.unreadable_images)

    @property
    def is_official(self) -> bool:
        """Whether the counts equal those of the published data set."""
        return has_official_counts(self.benchmark, self.counts)

    def lines(self) -> list[str]:
        """The report as lines of text, with at most the first `LISTED` findings."""
        official = self.official_counts
        counts = [
            f"{n} {c:,}" + (f" (official {official[n]:,})" if n in official else "") for n, c in self.counts.items()
        ]
        findings = [*self.findings, *self.unreadable_images]
        wrong = [f"missing file {name}" for name in self.missing_files]
        wrong += [f"{finding}" for finding in findings[:LISTED]]
        if len(findings) > LISTED:
            wrong.append(f"... and {len(findings) - LISTED} more (all of them with --json)")
        if self.missing_images:
            wrong.append(f"{self.missing_images} images are missing, the first: {self.first_missing_images[0]}")
        title = f"{self.benchmark} in {self.root}" + ("" if self.counts else ": could not be read")
        lines = [*counts, *(f"note: {note}" for note in self.notes), *(f"wrong: {line}" for line in wrong)]
        return [title, *(f"  {line}" for line in lines)]


@dataclass(frozen=True)
class CheckReport:
    """The result of `check`."""

    root: str
    benchmarks: tuple[BenchmarkReport, ...]

    @property
    def ok(self) -> bool:
        """Whether there is at least one benchmark and no benchmark has a fault."""
        return bool(self.benchmarks) and all(benchmark.ok for benchmark in self.benchmarks)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON."""
        benchmarks = [
            {**dataclasses.asdict(benchmark), "ok": benchmark.ok, "is_official": benchmark.is_official}
            for benchmark in self.benchmarks
        ]
        return {"root": self.root, "ok": self.ok, "benchmarks": benchmarks}

    def lines(self) -> list[str]:
        """The report as lines of text: each benchmark's counts beside the official ones, then its faults."""
        if not self.benchmarks:
            return [f"{self.root}: no benchmark of DeepFashion"]
        return [line for benchmark in self.benchmarks for line in benchmark.lines()]


def check(root: Path, *, images: bool = True, progress: bool = False, highres: bool | None = None) -> CheckReport:
    """Find the benchmarks in a folder and its direct subfolders, and examine each.

    Args:
        root: the folder of one benchmark, or of several.
        images: whether to decode every image; the annotations take seconds, the images of the full set many minutes.
        progress: whether to show a progress bar on stderr while images are decoded.
        highres: whether the labels are for the high-resolution photos, see `highres.at_true_size`.

    Raises:
        DataError: there is no such folder.
    """
    folders = find_benchmarks(Path(root))
    reports = (examine(folder, benchmark, images, progress, highres) for folder, benchmark in folders)
    return CheckReport(str(root), tuple(reports))


def examine(root: Path, benchmark: str, images: bool, progress: bool, highres: bool | None) -> BenchmarkReport:
    """Read one benchmark and report its faults. If that fails, read each of its files alone, to find all faults."""
    scans = scans_of(root, benchmark)
    present = [path for path in scans if path.exists()]
    missing = [path for path in scans if not path.exists() and path.name.startswith(NEEDED[benchmark])]
    data, findings = None, []
    try:
        data = READERS[benchmark](root, highres=highres)
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
        notes=data.missing if data else (),
        counts=count(root, benchmark, data) if data else {},
        official_counts=OFFICIAL[benchmark],
        findings=tuple(findings),
        missing_images=len(absent),
        first_missing_images=tuple(absent[:LISTED]),
        unreadable_images=tuple(unreadable),
    )


def scan_files(root: Path, scans: dict[Path, Scan]) -> list[Finding]:
    """Read each file alone and return every malformed row."""
    findings: list[Finding] = []

    def report(path: Path, line: int, message: str) -> None:
        findings.append(Finding(str(path.relative_to(root)), line or None, message))

    for path, scan in scans.items():
        try:
            scan(path, report)
        except DataError as error:
            findings.append(Finding(str(path.relative_to(root)), None, str(error)))
    return findings


def scans_of(root: Path, benchmark: str) -> dict[Path, Scan]:
    """The files that a benchmark's reader looks for, and a function that reads each alone."""
    if benchmark == "retrieval":
        return {root / CSV_NAME: lambda path, report: read_retrieval(path.parent)}
    if benchmark == "deepfashion2":
        return dict.fromkeys(
            (path for folder in FOLDERS if (path := root / folder / "annos").is_dir()), annotation_files
        )
    if benchmark == "category_fine":
        return fine_scans(root)
    partition = {
        "category": table(annotations.parse_split, 1),
        "landmarks": table(annotations.parse_split, 1),
        "in_shop": table(annotations.parse_item_split, 2),
        "consumer_to_shop": lambda path, report: annotations.read_pairs(path, report=report),
    }[benchmark]
    common: dict[Path, Scan] = {partition_file(root): partition}
    if benchmark == "category":
        return common | category_scans(anno_folder(root))
    folder = root / "Anno"
    if benchmark == "landmarks":
        return common | {
            folder / "list_bbox.txt": table(annotations.integers(4), 4),
            folder / "list_landmarks.txt": table(annotations.parse_landmarks, 25),
        }
    return common | retrieval_scans(folder, {"in_shop": "inshop", "consumer_to_shop": "consumer2shop"}[benchmark])


def annotation_files(folder: Path, report: Report) -> None:
    """Read one of DeepFashion2's folders of annotations; faults are reported without a line number."""
    for _ in read_garments(
        folder.parent.parent, (folder.parent.name,), report=lambda path, message: report(path, 0, message)
    ):
        pass


def retrieval_scans(folder: Path, suffix: str) -> dict[Path, Scan]:
    """The files of a retrieval benchmark except its partition."""
    attributes = deepfashion.attribute_folder(folder)
    return {
        folder / f"list_bbox_{suffix}.txt": table(annotations.integers(6, {0: (1, 3)}), 6),
        folder / f"list_landmarks_{suffix}.txt": table(annotations.parse_landmarks, 25),
        **dict.fromkeys(deepfashion.item_files(folder), items),
        **attribute_scans(attributes / "list_attr_cloth.txt", attributes / "list_attr_items.txt"),
        attributes / "list_color_cloth.txt": lambda path, report: annotations.read_colors(path, report=report),
    }


def anno_folder(root: Path) -> Path:
    """The folder of the annotations with a thousand attributes."""
    return root / "Anno_coarse" if (root / "Anno_coarse").is_dir() and not (root / "Anno").is_dir() else root / "Anno"


def table(parse: annotations.ParseRow, width: int) -> Scan:
    """Create the scan of a file of named rows."""
    return lambda path, report: annotations.read_table(path, parse, width, report=report)


def names(path: Path, report: Report) -> object:
    """Read a file of names and types."""
    return annotations.read_typed_names(path, report=report)


def items(path: Path, report: Report) -> object:
    """Read a file of items."""
    return annotations.read_items(path, report=report)


def count_of_names(path: Path) -> int | None:
    """Number of categories or attributes in a file, whose malformed rows are left out; None if there is no file."""
    return len(annotations.read_typed_names(path, report=lambda *_: None)[0]) if path.exists() else None


def category_of(cloth: Path) -> annotations.ParseRow:
    """Create a parser of a category's number; the file of the categories' names gives its upper limit."""
    count = count_of_names(cloth)
    return annotations.integers(1, {0: (1, count)} if count else None)


def category_scans(folder: Path) -> dict[Path, Scan]:
    """The files of the category benchmark except its partition."""
    cloth = folder / "list_category_cloth.txt"
    return {
        cloth: names,
        folder / "list_category_img.txt": table(category_of(cloth), 1),
        **attribute_scans(folder / "list_attr_cloth.txt", folder / "list_attr_img.txt"),
        folder / "list_bbox.txt": table(annotations.integers(4), 4),
        folder / "list_landmarks.txt": table(annotations.parse_landmarks, 25),
    }


def attribute_scans(cloth: Path, *rows: Path, ready: bool = False) -> dict[Path, Scan]:
    """The file of the attributes' names and the files of their labels.

    Args:
        cloth: the file of the names.
        *rows: the files of the labels.
        ready: whether these are files of a split in Anno_fine, which have neither header nor names.
    """

    def scan(path: Path, report: Report) -> None:
        if (width := count_of_names(cloth)) is not None:
            annotations.read_labels(path, width, header=0 if ready else 2, named=not ready, report=report)

    return {cloth: names, **dict.fromkeys(rows, scan)}


def fine_scans(root: Path) -> dict[Path, Scan]:
    """The files of Anno_fine: those of its splits, or its lists if it has none."""
    folder = root / "Anno_fine"
    if not (folder / "train.txt").exists():
        return {partition_file(root): table(annotations.parse_split, 1), **category_scans(folder)}
    splits = [split for split in deepfashion.READY_SPLITS if (folder / f"{split}.txt").exists()]
    cloth = folder / "list_category_cloth.txt"
    scans: dict[Path, Scan] = {
        cloth: names,
        folder / "list_landmarks.txt": table(annotations.parse_landmarks, 25),
        **attribute_scans(
            folder / "list_attr_cloth.txt", *(folder / f"{split}_attr.txt" for split in splits), ready=True
        ),
    }
    for split in splits:
        scans[folder / f"{split}.txt"] = lambda path, report: deepfashion.read_image_names(path)
        scans[folder / f"{split}_cate.txt"] = unnamed(category_of(cloth), 1)
        scans[folder / f"{split}_bbox.txt"] = unnamed(annotations.integers(4), 4)
        scans[folder / f"{split}_landmarks.txt"] = unnamed(annotations.integers(16), 16)
    return scans


def unnamed(parse: annotations.ParseRow, width: int) -> Scan:
    """Create the scan of a file of rows without names."""
    return lambda path, report: annotations.read_unnamed(path, parse, width, report=report)


def corner_findings(data: FashionData) -> list[Finding]:
    """Landmarks that are labelled as visible or occluded at (0, 0), which the files use for missing landmarks."""
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


def examine_images(data: FashionData, progress: bool) -> tuple[list[str], list[Finding], list[Finding]]:
    """Decode the images; return the missing ones, the unusable ones, and the labels that do not fit their images."""
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
    """Yield each image's name and its result of `decode`; a few thousand are decoded at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(images), 4096):
            chunk = images[start : start + 4096]
            yield from zip(chunk, pool.map(lambda name: decode(root / name), chunk), strict=True)


def decode(path: Path) -> Decoded:
    """Decode an image as training and evaluation do. A JPEG is decoded at an eighth of its size; all of it is read."""
    try:
        picture = read_image(path, side=1)
    except ImageError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return "missing" if missing else str(error).removeprefix(f"{path} ")
    return picture.width, picture.height


def place_findings(data: FashionData, row: int, size: tuple[int, int]) -> list[Finding]:
    """The faults of a row's labels on its image: a box outside the image, and landmarks outside it."""
    name, (width, height) = data.images[row], size
    findings = []
    try:
        if (data.boxes[row, 2:] > data.boxes[row, :2]).all():  # otherwise `box_findings` reports it
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
