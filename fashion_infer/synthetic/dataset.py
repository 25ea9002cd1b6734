"""Rendered garments as a data set on disk: JPEGs and the annotation files of all four DeepFashion benchmarks."""

import os
import shutil
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fashion_infer.arguments import LARGEST_SEED, whole_number
from fashion_infer.data.annotations import SLOTS
from fashion_infer.data.deepfashion import CATEGORY_NAMES as CATEGORIES
from fashion_infer.errors import DataError
from fashion_infer.synthetic.designs import ATTRIBUTE_GROUPS, ATTRIBUTES
from fashion_infer.synthetic.rendering import (
    VIEWS_PER_ITEM,
    Garment,
    item_attributes,
    item_design,
    render,
)

JPEG_QUALITY = 90
SMALLEST = 32  # smallest size of a picture, pixels
CHUNK = 32  # images of one task: few enough for a progress bar that moves often
WORTH_PROCESSES = 128  # images; rendering fewer takes less time than starting processes
GROUP_NUMBERS = {"texture": 1, "fabric": 2, "shape": 3, "part": 4, "style": 5}
SPLIT_SHARES = (("train", 0.7), ("val", 0.85), ("test", 1.0))  # cumulative shares of the items


@dataclass(frozen=True)
class Photo:
    """One image of the set.

    Attributes:
        garment: its labels, without pixels.
        split: "train", "val" or "test".
        category: its name in the category benchmark.
        landmarks: its name in the landmark benchmark.
        in_shop: its name in the In-shop benchmark; "" for a consumer's photo.
        consumer_to_shop: its name in the Consumer-to-shop benchmark.
    """

    garment: Garment
    split: str
    category: str
    landmarks: str
    in_shop: str
    consumer_to_shop: str


def write_dataset(
    root: Path, *, images: int, seed: int, size: int = 256, jobs: int | None = None, progress: bool = True
) -> None:
    """Render pictures and write them as the four benchmarks, each in the layout of its download.

    The benchmarks are the folders `category_attribute/`, `in_shop/`, `consumer_to_shop/` and `landmarks/`. All pictures
    of an item are in the same split. The same seed gives the same files, whatever the number of jobs. A picture that
    several benchmarks hold is one file with several hard links.

    Args:
        root: folder for the benchmarks, which must be empty or not exist.
        images: number of pictures; every four show one item.
        seed: random seed, not negative.
        size: the longer side of a picture in pixels, at least 32.
        jobs: number of processes; None means one for each core.
        progress: whether to show a progress bar on stderr.

    Raises:
        DataError: the folder is not empty, or cannot be written.
        UsageError: a number is out of range.
    """
    root = Path(root)
    images, seed = whole_number("images", images), whole_number("seed", seed, 0, LARGEST_SEED)
    size, jobs = whole_number("size", size, SMALLEST), None if jobs is None else whole_number("jobs", jobs)
    try:
        if root.exists() and any(root.iterdir()):
            raise DataError(f"{root} is not empty")
        root.mkdir(parents=True, exist_ok=True)
        with emptied_on_failure(root):
            photos = render_all(root, images, seed, size, jobs, progress)
            link_images(root, photos)
            write_category(root / "category_attribute", photos)
            write_in_shop(root / "in_shop", photos, seed)
            write_consumer_to_shop(root / "consumer_to_shop", photos, seed)
            write_landmarks(root / "landmarks", photos)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror}") from error


@contextmanager
def emptied_on_failure(folder: Path) -> Iterator[None]:
    """Empty the folder if the block fails or is stopped by Ctrl-C, since a partial set looks like a complete one."""
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        raise


def render_all(root: Path, images: int, seed: int, size: int, jobs: int | None, progress: bool) -> list[Photo]:
    """Render every image into the category benchmark's folder, in several processes if there are many images."""
    splits = split_items(seed, -(-images // VIEWS_PER_ITEM))
    names = {index: names_of(seed, index) for index in range(images)}
    for folder in {(root / "category_attribute" / "Img" / name[0]).parent for name in names.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]
    garments: dict[int, Garment] = {}
    workers = min(jobs or os.cpu_count() or 1, len(chunks))
    with bar(progress) as progress_bar:
        task = progress_bar.add_task("rendering", total=images)
        # Closed at once on Ctrl-C: the folder is emptied next, and no process may still write to it.
        with closing(run_chunks(root, chunks, seed, size, workers if images >= WORTH_PROCESSES else 1)) as results:
            for rendered in results:
                garments.update(rendered)
                progress_bar.advance(task, len(rendered))
    return [Photo(garments[index], splits[index // VIEWS_PER_ITEM], *names[index]) for index in range(images)]


def bar(visible: bool) -> Progress:
    """Create the progress bar, which is shown on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not visible)


def run_chunks(
    root: Path, chunks: Sequence[range], seed: int, size: int, workers: int
) -> Generator[dict[int, Garment], None, None]:
    """Yield the labels of each chunk when it is rendered; closing the generator waits for its processes."""
    if workers == 1:
        yield from (render_chunk(root, chunk, seed, size) for chunk in chunks)
        return
    # Processes are spawned: a fork would copy locks that threads of OpenCV or torch hold, but not these threads.
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(stop,)) as pool:
        with children_deaf_to_ctrl_c():
            tasks = [pool.submit(render_chunk, root, chunk, seed, size) for chunk in chunks]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            stop.set()  # after an error or Ctrl-C, the other processes need not finish their chunks
            pool.shutdown(cancel_futures=True)  # waits: a process that still starts needs the event


@contextmanager
def children_deaf_to_ctrl_c() -> Iterator[None]:
    """Let processes that start in the block ignore Ctrl-C, which a terminal sends to them too; an event stops them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_stop: Event | None = None  # in a worker process: the event that stops it


def start_worker(stop: Event) -> None:
    """Set up a worker process, which ends its chunk early when `stop` is set."""
    global _stop
    _stop = stop
    cv2.setNumThreads(1)


def render_chunk(root: Path, indices: range, seed: int, size: int) -> dict[int, Garment]:
    """Render and write some images; return their labels by index, only of those written before a stop."""
    labels = {}
    for index in indices:
        if _stop is not None and _stop.is_set():
            break
        garment = render(seed, index, size=size)
        (root / "category_attribute" / "Img" / names_of(seed, index)[0]).write_bytes(to_jpeg(garment))
        labels[index] = replace(garment, image=np.empty((0, 0, 3), np.uint8))
    return labels


def to_jpeg(garment: Garment) -> bytes:
    """Encode the picture as a JPEG file."""
    return cv2.imencode(".jpg", garment.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def names_of(seed: int, index: int) -> tuple[str, str, str, str]:
    """The names of an image in the four benchmarks; the name in In-shop is "" for a consumer's photo."""
    item, view = divmod(index, VIEWS_PER_ITEM)
    design, _ = item_design(seed, item)
    look = f"{design.texture}_{design.fabric}_{design.category}".title()
    kind = ("TOPS", "TROUSERS", "DRESSES")[design.clothes_type - 1]
    shop = view < 2
    return (
        f"img/{look}/img_{index + 1:08d}.jpg",
        f"img/{index + 1:08d}.jpg",
        f"img/{kind}/{design.category}/id_{item + 1:08d}/{view + 1:02d}_1_front.jpg" if shop else "",
        f"img/{kind}/{design.category}/id_{item + 1:08d}/{'shop' if shop else 'comsumer'}_{view % 2 + 1:02d}.jpg",
    )


def split_items(seed: int, count: int) -> list[str]:
    """The split of every item; the shares of the splits are right for a small number of items too."""
    order = np.random.default_rng([seed, 3]).permutation(count)
    share = (order + 0.5) / count
    return [next(name for name, limit in SPLIT_SHARES if value < limit) for value in share]


def link_images(root: Path, photos: Sequence[Photo]) -> None:
    """Link each picture to its names in the other benchmarks."""
    for photo in photos:
        source = root / "category_attribute" / "Img" / photo.category
        for benchmark in ("landmarks", "in_shop", "consumer_to_shop"):
            name = getattr(photo, benchmark)
            if name:
                target = root / benchmark / "Img" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                link(source, target)


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy on a file system without hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        target.write_bytes(source.read_bytes())


def write_list(path: Path, columns: str, rows: Sequence[tuple[str, str]]) -> None:
    """Write a list file: the number of rows, a line of column names if there are any, and the rows.

    Args:
        path: the file.
        columns: the line of column names; "" for none.
        rows: name and values of each row; the names are padded to the same width.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width = max((len(name) for name, _ in rows), default=0) + 2
    lines = [
        str(len(rows)),
        *([columns] if columns else []),
        *(f"{name:<{width}}{values}".rstrip() for name, values in rows),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_category(root: Path, photos: Sequence[Photo]) -> None:
    """Write the annotations of the Category and Attribute Prediction benchmark."""
    anno = root / "Anno"
    kinds = [1] * 20 + [2] * 16 + [3] * 14
    named = [(photo.category, photo) for photo in photos]
    write_list(
        anno / "list_category_cloth.txt",
        "category_name  category_type",
        [(n, str(k)) for n, k in zip(CATEGORIES, kinds, strict=True)],
    )
    write_list(
        anno / "list_category_img.txt",
        "image_name  category_label",
        [(name, str(p.garment.category + 1)) for name, p in named],
    )
    write_attribute_names(anno)
    write_list(
        anno / "list_attr_img.txt",
        "image_name  attribute_labels",
        [(name, labels(p.garment.attributes)) for name, p in named],
    )
    write_list(anno / "list_bbox.txt", "image_name  x_1  y_1  x_2  y_2", [(name, box(p.garment)) for name, p in named])
    write_list(anno / "list_landmarks.txt", landmark_columns(""), [(name, landmarks(p.garment)) for name, p in named])
    write_list(
        root / "Eval" / "list_eval_partition.txt",
        "image_name  evaluation_status",
        [(name, p.split) for name, p in named],
    )


def write_attribute_names(anno: Path) -> None:
    """Write the names of the attributes with the numbers of their groups."""
    groups = [str(GROUP_NUMBERS[group]) for group in ATTRIBUTE_GROUPS]
    write_list(
        anno / "list_attr_cloth.txt", "attribute_name  attribute_type", list(zip(ATTRIBUTES, groups, strict=True))
    )


def write_in_shop(root: Path, photos: Sequence[Photo], seed: int) -> None:
    """Write the annotations of the In-shop benchmark.

    The first view of an item of val or test is a query, its second view is in the gallery.
    """
    anno = root / "Anno"
    named = [(photo.in_shop, photo) for photo in photos if photo.in_shop]
    pairs = {p.garment.item for name, p in named if "/02_" in name}

    def status(name: str, photo: Photo) -> str:
        if photo.split == "train":
            return "train"
        return "query" if "/01_" in name and photo.garment.item in pairs else "gallery"

    columns = "image_name  clothes_type  pose_type  x_1  y_1  x_2  y_2"
    poses = {True: 1, False: 6}  # front view; the garment alone
    boxes = [(name, f"{p.garment.clothes_type}  {poses[p.garment.worn]}  {box(p.garment)}") for name, p in named]
    write_list(anno / "list_bbox_inshop.txt", columns, boxes)
    write_landmark_list(anno / "list_landmarks_inshop.txt", named)
    write_items(anno, "list_item_inshop.txt", [p for _, p in named], seed)
    partition = [(name, f"{item_id(p)}  {status(name, p)}") for name, p in named]
    write_list(root / "Eval" / "list_eval_partition.txt", "image_name  item_id  evaluation_status", partition)


def write_items(anno: Path, name: str, photos: Sequence[Photo], seed: int) -> None:
    """Write the lists of the items and of their attributes."""
    items = sorted({photo.garment.item for photo in photos})
    write_list(anno / name, "", [(f"id_{item + 1:08d}", "") for item in items])
    write_attribute_names(anno)
    rows = [(f"id_{item + 1:08d}", labels(item_attributes(seed, item))) for item in items]
    write_list(anno / "list_attr_items.txt", "item_id  attribute_labels", rows)


def write_consumer_to_shop(root: Path, photos: Sequence[Photo], seed: int) -> None:
    """Write the annotations of the Consumer-to-shop benchmark.

    Every consumer's photo of an item forms a pair with every shop photo of it.
    """
    anno = root / "Anno"
    named = [(photo.consumer_to_shop, photo) for photo in photos]
    views: dict[int, list[Photo]] = {}
    for photo in photos:
        views.setdefault(photo.garment.item, []).append(photo)
    domains = [1 if photo.in_shop else 2 for photo in photos]
    columns = "image_name  clothes_type  source_type  x_1  y_1  x_2  y_2"
    boxes = [
        (name, f"{p.garment.clothes_type}  {d}  {box(p.garment)}") for (name, p), d in zip(named, domains, strict=True)
    ]
    write_list(anno / "list_bbox_consumer2shop.txt", columns, boxes)
    write_landmark_list(anno / "list_landmarks_consumer2shop.txt", named)
    write_items(anno, "list_item_consumer2shop.txt", photos, seed)
    pairs = [
        (consumer.consumer_to_shop, f"{shop.consumer_to_shop}  {item_id(shop)}  {shop.split}")
        for group in views.values()
        for consumer, shop in product(group, group)
        if shop.in_shop and not consumer.in_shop
    ]
    columns = "image_pair_name_1  image_pair_name_2  item_id  evaluation_status"
    write_list(root / "Eval" / "list_eval_partition.txt", columns, pairs)


def write_landmarks(root: Path, photos: Sequence[Photo]) -> None:
    """Write the annotations of the Fashion Landmark Detection benchmark."""
    anno = root / "Anno"
    named = [(photo.landmarks, photo) for photo in photos]
    write_list(anno / "list_bbox.txt", "image_name  x_1  y_1  x_2  y_2", [(name, box(p.garment)) for name, p in named])
    write_landmark_list(anno / "list_landmarks.txt", named)
    write_list(
        root / "Eval" / "list_eval_partition.txt",
        "image_name  evaluation_status",
        [(name, p.split) for name, p in named],
    )


def write_landmark_list(path: Path, named: Sequence[tuple[str, Photo]]) -> None:
    """Write landmarks with a variation type, 2 for a consumer's photo; only the category benchmark has none."""
    rows = [(name, landmarks(photo.garment, 1 if photo.in_shop else 2)) for name, photo in named]
    write_list(path, landmark_columns("variation_type"), rows)


def item_id(photo: Photo) -> str:
    """The name of the photo's item, numbered from 1."""
    return f"id_{photo.garment.item + 1:08d}"


def labels(row: Iterable[int]) -> str:
    """Format attribute labels, each two characters wide."""
    return " ".join(f"{value:2d}" for value in row)


def box(garment: Garment) -> str:
    """Format the box, padded with zeros as in DeepFashion's files."""
    return "  ".join(f"{value:03d}" for value in garment.box)


def landmarks(garment: Garment, variation: int | None = None) -> str:
    """Format the clothes type, the variation type unless it is None, and the landmarks of the clothes type."""
    slots = SLOTS[garment.clothes_type]
    cells = [
        f"{garment.visibility[slot]} {int(x):03d} {int(y):03d}" for slot in slots for x, y in [garment.landmarks[slot]]
    ]
    return "  ".join([str(garment.clothes_type), *([] if variation is None else [str(variation)]), *cells])


def landmark_columns(variation: str) -> str:
    """The column names of a landmark file; `variation` is the name of the variation type's column, "" for none."""
    numbers = range(1, 9)
    columns = (f"landmark_visibility_{i} landmark_location_x_{i} landmark_location_y_{i}" for i in numbers)
    return "  ".join(["image_name", "clothes_type", *([variation] if variation else []), *columns])
