"""Evaluation of a network on a labelled set, with the same code for a checkpoint, an ONNX file and an engine.

images -> a crop of each box, as in deployment -> network -> landmarks mapped back to the photo -> `protocols`
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.data.benchmarks import READERS, count, find_benchmarks, has_official_counts
from fashion_infer.data.fashion_data import CONSUMER, SHOP, UNLABELLED, FashionData
from fashion_infer.errors import DataError, ImageError
from fashion_infer.evaluation.protocols import PUBLISHED, Evaluation, Labels, evaluate
from fashion_infer.forks import wait_for_end_of_this_thread
from fashion_infer.model_spec import LANDMARK_NAMES, ModelSpec
from fashion_infer.preprocess import Crop, read_crop

Floats = NDArray[np.floating]
Run = Callable[[NDArray[np.uint8]], Outputs]  # `run` of a Predictor or of a Backend
T = TypeVar("T")
Gallery = Literal["test", "val+test"]
WITH_SHOPS = ("consumer_to_shop", "deepfashion2")  # benchmarks that tell shops' photos from consumers'
Progress = Callable[[Sequence[int]], Iterable[int]]  # yields the rows and shows the progress


@dataclass(frozen=True, eq=False)
class Judgement:
    """The result of an evaluation.

    Attributes:
        evaluation: the measures of the paper's protocols.
        images: number of images judged.
        skipped: error of each image that could not be used.
        unknown_categories: categories of the labels that the model lacks; each such label counts as a miss.
        unknown_attributes: attributes of the labels that the model lacks; each such label counts as a miss. If the
            model has none of the attributes, they are not evaluated.
        missing: sentences that say what the set lacks and what was therefore not judged.
        ranks: for each query of a retrieval set the image, item and kind of garment, and the ranks of its item's
            images in the gallery, from 1. hit@k and mAP can be computed from them.
        published: FashionNet's row of the paper's tables if the data are the paper's, with the evaluation's keys.
    """

    evaluation: Evaluation
    images: int
    skipped: dict[str, str]
    unknown_categories: tuple[str, ...]
    unknown_attributes: tuple[str, ...]
    missing: tuple[str, ...] = ()
    ranks: tuple[Mapping[str, Any], ...] = ()
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
        """Remarks that a reader of the numbers needs, each with the images or labels that it concerns."""
        remarks = {
            "images could not be used": self.skipped,
            "categories are not the model's, each label counts as a miss": self.unknown_categories,
            "attributes are not the model's": self.unknown_attributes,
            "things are missing": self.missing,
        }
        return [(remark, list(names)) for remark, names in remarks.items() if names]


@dataclass(frozen=True)
class _Cut:
    """One row's crop and the size of its photo (width, height) in pixels, or its error."""

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
    """Run a network on a set and compute the measures of every protocol that the set has labels for.

    Categories and attributes are matched by name. A category of the model that the set lacks takes part in the
    ranking. An attribute of the model that the set lacks does not, because the labels do not say that it is wrong.

    Args:
        run: function that maps uint8 [N, S, S, 3] RGB to the outputs of `Predictor.run`.
        spec: the network's specification.
        data: the images to judge on, each cropped to its box; a retrieval set has both its queries and its gallery.
        batch_size: images in each call of `run`; twice as many are decoded ahead.
        threads: number of threads that decode images; None means one for each core.
        progress: wrapper of the sequence of row numbers that shows a bar, such as rich's `track`; by default none.

    Raises:
        DataError: no image can be read, or the set's labelled categories (of a set without items, its attributes)
            share no name with the model's.
    """
    categories, unknown_categories = _match_categories(spec, data)
    columns, unknown_attributes = _match_attributes(spec, data)
    good: list[_Cut] = []
    skipped: dict[str, str] = {}
    batches: list[Outputs] = []
    for cuts in decoded(partial(_cut, data, spec.image_size), len(data), batch_size, threads, progress):
        skipped |= {data.images[cut.row]: cut.error for cut in cuts if cut.crop is None}
        if crops := [cut.crop for cut in cuts if cut.crop is not None]:
            batches.append(_run(run, crops))
            good += [replace(cut, crop=None) for cut in cuts if cut.crop is not None]
    if not good:
        raise DataError(f"no image of the set can be read: {next(iter(skipped.values()), 'it has none')}")
    outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    outputs["category"] = _with_missing(outputs["category"], len(unknown_categories))
    outputs["attributes"] = _with_missing(outputs["attributes"], 1)[:, columns]
    rows, sizes = [cut.row for cut in good], np.array([cut.size for cut in good], np.float64)
    has_attributes = len(unknown_attributes) < len(columns)
    labels = _labels(data.select(rows), categories[rows], sizes, keep_attributes=has_attributes)
    evaluation = evaluate(outputs, labels, landmarks=outputs["landmarks"])
    ranks = _ranks(data.select(rows), evaluation)
    return Judgement(evaluation, len(rows), skipped, unknown_categories, unknown_attributes, data.missing, ranks)


class HasDict(Protocol):
    """An object that can be converted to plain Python values."""

    def to_dict(self) -> dict[str, Any]: ...


Result = TypeVar("Result", bound=HasDict)


@dataclass(frozen=True)
class FolderJudgement(Generic[Result]):
    """The results for the benchmarks in a folder.

    Attributes:
        judgements: result by the benchmark's name, or by `name in folder` if several folders hold the same benchmark.
        failed: error of each benchmark that could not be judged, with the same names.
    """

    judgements: dict[str, Result]
    failed: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON; a benchmark that failed has its error only."""
        judged = {name: judgement.to_dict() for name, judgement in self.judgements.items()}
        return judged | {name: {"error": error} for name, error in self.failed.items()}


def judge_folder(
    run: Run,
    spec: ModelSpec,
    root: Path,
    *,
    benchmark: str | None = None,
    split: str = "test",
    gallery: Gallery = "test",
    highres: bool | None = None,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress = iter,
) -> FolderJudgement[Judgement]:
    """Judge a network on the benchmarks in a folder and its subfolders; a failed one does not stop the others.

    Args:
        run: see `judge`.
        spec: the network's specification.
        root: the folder.
        benchmark: name of the only benchmark to judge on, a key of `benchmarks.READERS`; None for all.
        split: name of the split; "test" means query and gallery in a set that has these splits.
        gallery: the shop photos in which Consumer-to-shop's test queries are looked up. `test`, the photos of the test
            items, is the protocol of 2016 and of the published row; `val+test` is the protocol of later papers.
        highres: which photos to use, see `highres.at_true_size`.
        batch_size: see `judge`.
        threads: see `judge`.
        progress: see `judge`.

    Raises:
        DataError: there is no such benchmark, none can be judged, or none has the photos that `gallery` names.
    """
    if gallery != "test" and not {name for _, name in find_benchmarks(root)}.intersection(WITH_SHOPS):
        raise DataError(f"{root} holds no benchmark with a gallery {gallery!r}: {' or '.join(WITH_SHOPS)}")

    def judge_one(folder: Path, name: str) -> Judgement:
        whole = READERS[name](folder, highres=highres)
        data = select_split(whole, split, gallery)
        judgement = judge(run, spec, data, batch_size=batch_size, threads=threads, progress=progress)
        official = (split, gallery) == ("test", "test") and has_official_counts(name, count(folder, name, whole))
        return replace(judgement, published=PUBLISHED.get(name, {}) if official else {})

    return each_benchmark(root, benchmark, judge_one)


def each_benchmark(
    root: Path, benchmark: str | None, judge_one: Callable[[Path, str], Result]
) -> FolderJudgement[Result]:
    """Judge every benchmark in a folder and its subfolders.

    Args:
        root: the folder.
        benchmark: name of the only benchmark to judge on; None for all.
        judge_one: function of a benchmark's folder and name; its DataError does not stop the others.

    Raises:
        DataError: there is no such benchmark, or no benchmark can be judged.
    """
    places = [(folder, name) for folder, name in find_benchmarks(root) if benchmark in (None, name)]
    if not places:
        raise DataError(f"{root} holds no benchmark {benchmark or 'of DeepFashion'}: fashion-infer data check {root}")
    names = [name for _, name in places]
    judged: FolderJudgement[Result] = FolderJudgement({}, {})
    for folder, name in places:
        title = f"{name} in {folder.relative_to(root)}" if names.count(name) > 1 else name
        try:
            judged.judgements[title] = judge_one(folder, name)
        except DataError as error:
            judged.failed[title] = str(error)
    if not judged.judgements:
        raise DataError("; ".join(judged.failed.values()))
    return judged


def select_split(data: FashionData, split: str, gallery: Gallery = "test") -> FashionData:
    """The rows to judge on; see `judge_folder`. Shop photos that only serve as gallery lose their other labels.

    Raises:
        DataError: there is no such split.
    """
    if split == "test" and {"query", "gallery"} <= set(data.splits.tolist()):
        return data.split("query", "gallery")
    if gallery == "test" or split != "test" or not (data.domains == CONSUMER).any():
        return data.split(split)
    rows = np.isin(data.splits, (split, "val")) & ((data.splits == split) | (data.domains == SHOP))
    chosen = data.select(np.flatnonzero(rows))
    other = chosen.splits != split
    return replace(
        chosen,
        categories=np.where(other, -1, chosen.categories),
        attributes=np.where(other[:, None], 0, chosen.attributes),
        visibility=np.where(other[:, None], UNLABELLED, chosen.visibility),
    )


def _match_categories(spec: ModelSpec, data: FashionData) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The labels [N] as columns of the model's output, and the names that the model lacks, as the columns after it."""
    used = [data.category_names[i] for i in np.unique(data.categories[data.categories >= 0])]
    if used and set(data.category_names).isdisjoint(spec.categories):
        if (data.items >= 0).any():  # a retrieval set need not share categories with the model
            return np.full(len(data), -1), tuple(used)
        raise DataError(
            f"the model knows none of the set's categories ({_some(used)}): it has {_some(spec.categories)}"
        )
    unknown = tuple(name for name in used if name not in spec.categories)
    places = {name: i for i, name in enumerate((*spec.categories, *unknown))}
    numbers = np.array([*(places.get(name, -1) for name in data.category_names), -1])  # the last one is for -1
    return numbers[data.categories], unknown


def _match_attributes(spec: ModelSpec, data: FashionData) -> tuple[list[int], tuple[str, ...]]:
    """The column of the model's output for each attribute of the set, -1 if the model lacks it."""
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


def decoded(
    load: Callable[[int], T], count: int, batch_size: int, threads: int | None = None, progress: Progress = iter
) -> Iterator[list[T]]:
    """Yield the results of `load` for rows 0 to `count` - 1, in batches, while the caller runs the network.

    Args:
        load: function that reads one row; a pool of threads calls it.
        count: number of rows.
        batch_size: rows in each list; twice as many are read ahead.
        threads: number of threads in the pool; None means one for each core.
        progress: see `judge`.
    """
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(
        threads or os.cpu_count(),
        thread_name_prefix="fashion-infer-judge",
        initializer=wait_for_end_of_this_thread,  # training forks its workers before each epoch
    )
    try:
        for row in progress(range(count)):
            waiting.append(pool.submit(load, row))
            if len(waiting) == 3 * batch_size:
                yield [waiting.popleft().result() for _ in range(batch_size)]
        while waiting:
            yield [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
    finally:
        pool.shutdown(cancel_futures=True)


def _cut(data: FashionData, size: int, row: int) -> _Cut:
    box = data.box(row)
    try:
        picture, cut = read_crop(data.image_root / data.images[row], size, box)
        return _Cut(row, cut, (picture.width, picture.height))
    except ImageError as error:
        return _Cut(row, error=str(error))


def _run(run: Run, crops: list[Crop]) -> Outputs:
    """The network's outputs for these crops, its landmarks in pixels of the photos."""
    outputs = run(np.stack([crop.pixels for crop in crops]))
    points = [crop.to_image(points) for crop, points in zip(crops, outputs["landmarks"], strict=True)]
    return {name: outputs[name] for name in ("category", "attributes", "embedding")} | {"landmarks": np.stack(points)}


def _with_missing(scores: Floats, count: int) -> Any:
    """Append `count` columns for classes that the network lacks: -inf, which is never a hit."""
    return np.pad(scores, ((0, 0), (0, count)), constant_values=-np.inf)


def _labels(data: FashionData, categories: NDArray[np.int64], sizes: Floats, keep_attributes: bool) -> Labels:
    """The labels of these rows, whose photos have these widths and heights [N, 2]."""
    # A set without these splits is Consumer-to-shop: consumers' photos are looked up among those of the shops
    queried = np.isin(data.splits, ("query", "gallery"))
    whole = np.isnan(data.boxes).any(axis=1, keepdims=True)
    corners = np.clip(data.boxes.astype(np.float64).reshape(-1, 2, 2), 0, sizes[:, None])
    return Labels(
        categories=categories,
        attributes=data.attributes if keep_attributes else np.zeros_like(data.attributes),
        attribute_groups=data.attribute_groups,
        landmarks=data.landmarks,
        visibility=data.visibility,
        image_sizes=sizes,
        box_sizes=np.where(whole, sizes, corners[:, 1] - corners[:, 0]),
        items=data.items,
        queries=np.where(queried, data.splits == "query", data.domains == CONSUMER),
        gallery=np.where(queried, data.splits == "gallery", data.domains == SHOP),
        kinds=data.kinds(),
    )


def _ranks(data: FashionData, evaluation: Evaluation) -> tuple[Mapping[str, Any], ...]:
    """The entries of `Judgement.ranks`, one for each query."""
    if (retrieval := evaluation.retrieval) is None:
        return ()
    queries = zip(retrieval.queries.tolist(), retrieval.kinds.tolist(), retrieval.ranks, strict=True)
    return tuple(
        {"image": data.images[row], "item": int(data.items[row]), "kind": kind, "ranks": ranks.tolist()}
        for row, kind, ranks in queries
    )
