"""A network judged on a labelled set: the same code for a checkpoint, an ONNX file and an engine.

images -> the crop that deployment makes of each box -> network -> landmarks brought back to the photo -> `measures`
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.data.deepfashion_check import READERS, count, find_benchmarks, has_official_counts
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError, ImageError
from fashion_infer.evaluation.measures import PUBLISHED, Evaluation, Labels, evaluate
from fashion_infer.model_spec import LANDMARK_NAMES, ModelSpec
from fashion_infer.preprocess import Crop, read_crop

Floats = NDArray[np.floating]
Run = Callable[[NDArray[np.uint8]], Outputs]  # `run` of a Predictor or of a Backend
Progress = Callable[[Sequence[int]], Iterable[int]]  # gives the rows back one by one, and shows how far it is


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was measured, and what could not be.

    Attributes:
        evaluation: by the paper's protocols.
        images: how many were judged.
        skipped: the images that could not be used -> why.
        unknown_categories: in the labels, but not the model's: each such label counts as a miss.
        unknown_attributes: likewise; where the model has none of them, attributes are not evaluated.
        published: FashionNet's row of the paper's tables, where the data are the paper's; keyed as the evaluation.
    """

    evaluation: Evaluation
    images: int
    skipped: dict[str, str]
    unknown_categories: tuple[str, ...]
    unknown_attributes: tuple[str, ...]
    published: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON."""
        return {**vars(self), "evaluation": self.evaluation.to_dict()}

    def rows(self) -> list[tuple[str, float, float | None]]:
        """The measures that the paper prints as (name, value, published value), without those of single landmarks."""
        metrics = self.evaluation.to_dict()
        return [
            (name, value, self.published.get(name))
            for name, value in metrics.items()
            if isinstance(value, float) and not any(name.endswith(point) for point in LANDMARK_NAMES)
        ]

    def remarks(self) -> list[tuple[str, list[str]]]:
        """What a reader of the numbers must know -> the images or labels that it is about."""
        remarks = {
            "images could not be used": self.skipped,
            "categories are not the model's, each label counts as a miss": self.unknown_categories,
            "attributes are not the model's": self.unknown_attributes,
        }
        return [(what, list(names)) for what, names in remarks.items() if names]


@dataclass(frozen=True)
class _View:
    """One row's crop and the size of its photo (width, height), pixels; or why there is none."""

    row: int
    crop: Crop | None = None
    size: tuple[int, int] = (0, 0)
    error: str = ""


def judge(
    run: Run,
    spec: ModelSpec,
    data: FashionData,
    *,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress = iter,
) -> Judgement:
    """Run a network over a set and measure it by every protocol that the set has labels for.

    Categories and attributes are matched by name. A category of the model that the set does not know takes part in
    the ranking; an attribute of the model that the set does not know does not, since nobody said it was wrong.

    Args:
        run: uint8 [N, S, S, 3] RGB -> outputs as `Predictor.run` gives them.
        spec: of the network.
        data: the images to judge on, each cropped by its box; of retrieval sets both the queries and the gallery.
        batch_size: images a call of `run`; twice as many are decoded ahead.
        threads: that decode; one for each core when None.
        progress: wraps the sequence of row numbers, to show a bar such as rich's `track`; by default shows nothing.

    Raises:
        DataError: no image can be read, or the set's labelled categories (of a set without items, its attributes)
            share no name with the model's.
    """
    categories, unknown_categories = _match_categories(spec, data)
    columns, unknown_attributes = _match_attributes(spec, data)
    good: list[_View] = []
    skipped: dict[str, str] = {}
    batches: list[Outputs] = []
    for views in _batches(data, spec.image_size, batch_size, threads, progress):
        skipped |= {data.images[view.row]: view.error for view in views if view.crop is None}
        if crops := [view.crop for view in views if view.crop is not None]:
            batches.append(_run(run, crops))
            good += [replace(view, crop=None) for view in views if view.crop is not None]
    if not good:
        raise DataError(f"no image of the set can be read: {next(iter(skipped.values()), 'it has none')}")
    outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    outputs["category"] = _with_missing(outputs["category"], len(unknown_categories))
    outputs["attributes"] = _with_missing(outputs["attributes"], 1)[:, columns]
    rows, sizes = [view.row for view in good], np.array([[view.size] for view in good], np.float64)
    known = len(unknown_attributes) < len(columns)
    labels = _labels(data.select(rows), categories[rows], sizes, keep_attributes=known)
    evaluation = evaluate(outputs, labels, landmarks=outputs["landmarks"] / sizes)
    return Judgement(evaluation, len(rows), skipped, unknown_categories, unknown_attributes)


def judge_folder(
    run: Run,
    spec: ModelSpec,
    root: Path,
    *,
    benchmark: str | None = None,
    split: str = "test",
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress = iter,
) -> dict[str, Judgement]:
    """Judge a network on the benchmarks of DeepFashion that lie in a folder or in the folders in it.

    Args:
        run: see `judge`.
        spec: of the network.
        root: the folder.
        benchmark: the only one to judge on; see `deepfashion_check.READERS` for the names.
        split: of the images; the In-shop benchmark's "test" are its queries and its gallery.
        batch_size: see `judge`.
        threads: see `judge`.
        progress: see `judge`.

    Returns:
        The judgement by the benchmark's name.

    Raises:
        DataError: there is no such benchmark or split, a file is missing or malformed, or as `judge` does.
    """
    found = {name: folder for folder, name in find_benchmarks(root) if benchmark in (None, name)}
    if not found:
        raise DataError(f"{root} holds no benchmark {benchmark or 'of DeepFashion'}: fashion-infer data check {root}")
    judgements = {}
    for name, folder in found.items():
        whole = READERS[name](folder)
        data = whole.split("query", "gallery") if (name, split) == ("in_shop", "test") else whole.split(split)
        judgement = judge(run, spec, data, batch_size=batch_size, threads=threads, progress=progress)
        official = split == "test" and has_official_counts(name, count(folder, name, whole))
        judgements[name] = replace(judgement, published=PUBLISHED.get(name, {}) if official else {})
    return judgements


def _match_categories(spec: ModelSpec, data: FashionData) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels [N] as columns of the model's output, where the ones it lacks are appended in the order returned."""
    used = [data.category_names[i] for i in np.unique(data.categories[data.categories >= 0])]
    if used and set(data.category_names).isdisjoint(spec.categories):
        raise DataError(
            f"the model knows none of the set's categories ({_some(used)}): it has {_some(spec.categories)}"
        )
    unknown = tuple(name for name in used if name not in spec.categories)
    places = {name: i for i, name in enumerate((*spec.categories, *unknown))}
    numbers = np.array([*(places.get(name, -1) for name in data.category_names), -1])  # the last one is for -1
    return numbers[data.categories], unknown


def _match_attributes(spec: ModelSpec, data: FashionData) -> tuple[list[int], tuple[str, ...]]:
    """For each attribute of the set the column of the model's output, -1 for those that it lacks."""
    names = data.attribute_names
    places = {name: i for i, name in enumerate(spec.attributes)}
    unknown = tuple(name for name in names if name not in places)
    if names and len(unknown) == len(names) and not (data.items >= 0).any():
        raise DataError(
            f"the model knows none of the set's attributes ({_some(names)}): it has {_some(spec.attributes)}"
        )
    return [places.get(name, -1) for name in names], unknown


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _batches(
    data: FashionData, size: int, batch_size: int, threads: int | None, progress: Progress
) -> Iterator[list[_View]]:
    """The views of all rows in order, decoded by a pool of threads while the network runs."""
    waiting: deque[Any] = deque()
    pool = ThreadPoolExecutor(threads or os.cpu_count(), thread_name_prefix="fashion-infer-judge")
    try:
        for row in progress(range(len(data))):
            waiting.append(pool.submit(_view, data, row, size))
            if len(waiting) == 3 * batch_size:
                yield [waiting.popleft().result() for _ in range(batch_size)]
        while waiting:
            yield [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
    finally:
        pool.shutdown(cancel_futures=True)


def _view(data: FashionData, row: int, size: int) -> _View:
    box = data.boxes[row].astype(np.float64)
    try:
        picture, cut = read_crop(data.image_root / data.images[row], size, box)
        return _View(row, cut, (picture.width, picture.height))
    except ImageError as error:
        return _View(row, error=str(error))


def _run(run: Run, crops: list[Crop]) -> Outputs:
    """The network's outputs for these crops, its landmarks in pixels of the photos."""
    outputs = run(np.stack([cut.pixels for cut in crops]))
    points = [cut.to_image(points) for cut, points in zip(crops, outputs["landmarks"], strict=True)]
    return {name: outputs[name] for name in ("category", "attributes", "embedding")} | {"landmarks": np.stack(points)}


def _with_missing(scores: Floats, count: int) -> Any:
    """`count` more columns, of classes that the network lacks: -inf, which is never a hit."""
    return np.pad(scores, ((0, 0), (0, count)), constant_values=-np.inf)


def _labels(data: FashionData, categories: NDArray[np.int64], sizes: Floats, keep_attributes: bool) -> Labels:
    in_shop = np.isin(data.splits, ("query", "gallery"))  # else consumers' pictures are looked up among shops'
    return Labels(
        categories=categories,
        attributes=data.attributes if keep_attributes else np.zeros_like(data.attributes),
        attribute_groups=data.attribute_groups,
        landmarks=data.landmarks / sizes,
        visibility=data.visibility,
        items=data.items,
        queries=np.where(in_shop, data.splits == "query", data.domains == 2),
        gallery=np.where(in_shop, data.splits == "gallery", data.domains == 1),
    )
