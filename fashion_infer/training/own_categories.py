"""Own categories: a trained network learns the classes of a folder in minutes on a CPU.

photos -> features (computed once) -> category head (penalty by cross-validation) -> temperature -> garment score

The weights that affect the embedding do not change, so galleries of the original network fit the result as well. With
`unfreeze` they may change; the change is kept only if cross-validation shows a gain.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from fashion_infer.arguments import LARGEST_SEED, whole_number
from fashion_infer.data.class_folders import read_class_folders, read_photos
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError, UsageError
from fashion_infer.evaluation.measures import attribute_recall
from fashion_infer.files import check_place
from fashion_infer.model_spec import ModelSpec
from fashion_infer.training.checkpoint import save_checkpoint
from fashion_infer.training.features import features_of
from fashion_infer.training.linear_head import STRENGTHS, Fitting, Head, cross_validate, fit, folds_of, mean_loss
from fashion_infer.training.model import FashionNet
from fashion_infer.training.none_of_these import fit_none_of_these
from fashion_infer.training.own_labels import LEAST, Photos, load_photos, read_own, without_training_photos
from fashion_infer.training.own_report import Accuracy, OwnReport, accuracy_of, confusion_of, doubts_of
from fashion_infer.training.unfreezing import unfreeze
from fashion_infer.training.wide_heads import head_of, renumbered, same_names, set_head, with_heads_for

TEMPERATURES = np.geomspace(0.2, 5, 65)

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True)
class OwnConfig:
    """Settings for learning own categories.

    Attributes:
        data: A folder of class folders, or a set in DeepFashion's layout, whose attributes are learnt too.
        test: A folder of class folders used only to measure the accuracy; None without one.
        others: A folder of photos of none of the classes; None without one.
        add: Keep the model's categories with unchanged logits, and add those that it does not have.
        unfreeze: Train the network's later layers as well, and keep the result if cross-validation shows a gain.
        highres: For DeepFashion's layout, which photos the labels belong to, see `highres.at_true_size`.
        seed: Random seed of the folds and of the training with `unfreeze`.

    Raises:
        UsageError: The seed is negative; or `add` and `unfreeze` are both set, and training later layers would change
            every logit.
    """

    data: Path
    test: Path | None = None
    others: Path | None = None
    add: bool = False
    unfreeze: bool = False
    highres: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("seed", self.seed, 0, LARGEST_SEED)
        if self.add and self.unfreeze:
            raise UsageError(
                "added classes leave the others' logits as they are, and unfreezing changes them: choose one"
            )


@dataclass(frozen=True, eq=False)
class _Category:
    """The result of fitting the category head.

    Attributes:
        strength: Strength of the penalty.
        logits: [N, C] from cross-validation, each row from a head that was not fitted on its photo.
        fit_on: Fits a head with the same penalty on the rows that it gets, int64 [M].
    """

    strength: float
    logits: Floats
    fit_on: Callable[[Ints], Head]


def train_own(network: FashionNet, spec: ModelSpec, config: OwnConfig, output: Path) -> OwnReport:
    """Train a copy of a network on the categories of a folder and write it as a checkpoint.

    The report and a contact sheet of the most doubtful photos are written beside the checkpoint.

    Args:
        network: The network to start from, in evaluation mode; it is not changed.
        spec: The network's ModelSpec.
        config: The settings.
        output: The .safetensors file to write.

    Returns:
        The report on what was learnt.

    Raises:
        UsageError: The output is not a .safetensors file.
        DataError: There are too few photos, or labels that cannot be used; see `own_labels`.
        OutputError: A file cannot be written.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"-o names the checkpoint to write, such as own.safetensors, got {output}")
    check_place(output)
    began = time.monotonic()
    data = read_own(config.data, config.highres)
    wide, own_spec, from_model = with_heads_for(network, spec, data, add=config.add)
    new = np.array([not config.add or name not in spec.categories for name in own_spec.categories])
    _check_classes(data, own_spec.categories, new)
    with Progress(console=Console(stderr=True)) as bars:
        photos = load_photos(wide, data, _track(bars, "looking at the photos"))
        photos = replace(photos, data=renumbered(photos.data, own_spec.categories))
        folds = folds_of(photos.labels, photos.groups, config.seed)
        category = _fit_category(wide, photos, folds, new, _ticker(bars, "cross-validation", len(STRENGTHS)))
        unfrozen, logits = None, category.logits
        if config.unfreeze:
            tick = _ticker(bars, "training later layers", len(np.unique(folds)))
            wide, unfrozen, logits = unfreeze(wide, photos, folds, logits, category.fit_on, tick, config.seed)
            if unfrozen.kept:
                photos = replace(photos, features=features_of(wide, photos.data, _track(bars, "looking again")).values)
        attributes = _fit_attributes(wide, own_spec, photos, folds, bars)
        if not config.add:  # a new temperature would change the probabilities of the model's own classes
            own_spec = replace(own_spec, temperature=best_temperature(logits, photos.labels))
        own_spec, none = fit_none_of_these(wide, own_spec, photos, folds, _others(wide, config.others, bars))
        test = None if config.test is None else _judge(wide, own_spec, config.test, photos, bars)
    if none.strangers:
        words = ", ".join(none.strangers[:5])
        logger.warning("%d photos look like none of the classes, for example %s", len(none.strangers), words)
    same_embedding = unfrozen is None or not unfrozen.kept
    save_checkpoint(output, wide, own_spec, (spec.embedding_sha256 or spec.weights_sha256) if same_embedding else "")
    report = OwnReport(
        categories=own_spec.categories,
        from_model=from_model,
        strength=category.strength,
        temperature=own_spec.temperature,
        accuracy=accuracy_of(logits, photos.labels, photos.groups),
        confusion=confusion_of(logits, photos.labels, own_spec.categories),
        doubtful=doubts_of(logits / own_spec.temperature, photos, own_spec.categories),
        none=none,
        attributes=attributes,
        unfrozen=unfrozen,
        test=test,
        skipped=photos.skipped,
        same_embedding=same_embedding,
        seconds=time.monotonic() - began,
    )
    report.write(output)
    return report


def best_temperature(logits: Floats, labels: Ints) -> float:
    """Return the divisor of the logits [N, C] that minimises the cross-entropy with the labels [N].

    The logits must come from heads that were not fitted on these labels.
    """
    losses = [mean_loss(logits / temperature, labels, "softmax") for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _check_classes(data: FashionData, categories: tuple[str, ...], new: NDArray[np.bool_]) -> None:
    """Check that there are new classes, and photos of at least two classes.

    Args:
        data: Labelled photos.
        categories: Categories of the new model.
        new: bool [C], the categories whose rows are fitted.

    Raises:
        DataError: There is nothing to learn, or nothing to learn it from.
    """
    if len(categories) == 1:
        raise DataError(
            f"there is one class only, {categories[0]}: a model chooses between two or more; add a folder of photos of "
            "other things, or --add, which keeps the model's own classes beside it"
        )
    if not new.any():
        raise DataError("the model has all of these classes already: leave out --add to train them again")
    if len(data.category_names) == 1:
        raise DataError(
            f"there are photos of {data.category_names[0]} only: what tells it from the other classes is learnt from "
            "photos of those, too; put some into folders beside it"
        )
    same = same_names(data.category_names, categories)
    if unseen := [name for name in categories if name not in same.values()]:
        logger.warning(
            "no photos of %d of the model's classes (for example %s): whether the new classes can be told from them is "
            "not measured",
            len(unseen),
            unseen[0],
        )


def _fit_category(
    network: FashionNet, photos: Photos, folds: Ints, trained: NDArray[np.bool_], tick: Callable[[], object]
) -> _Category:
    """Fit the category head and put it into the network."""
    start, fitting = head_of(network, "category"), Fitting("softmax", network.blocks, trained)
    features, labels = photos.features, photos.labels
    strength, logits = cross_validate(features, labels, start, folds, fitting, tick)

    def fit_on(rows: Ints) -> Head:
        return fit(features[rows], labels[rows], start, strength, fitting)

    set_head(network, "category", fit_on(np.arange(len(labels))))
    return _Category(strength, logits, fit_on)


def _fit_attributes(network: FashionNet, spec: ModelSpec, photos: Photos, folds: Ints, bars: Progress) -> float | None:
    """Fit the rows of the attributes that have enough labels.

    Returns:
        Recall of the attributes among the three best, in [0, 1]; None if no attribute has enough labels.
    """
    names = photos.data.attribute_names
    targets = np.zeros((len(photos.data), len(spec.attributes)), np.int64)
    targets[:, [spec.attributes.index(name) for name in names]] = photos.data.attributes
    trained = ((targets > 0).sum(0) >= LEAST) & ((targets < 0).sum(0) >= LEAST)
    if not trained.any():
        return None
    start, fitting = head_of(network, "attributes"), Fitting("binary", network.blocks, trained)
    tick = _ticker(bars, "attributes", len(STRENGTHS))
    strength, logits = cross_validate(photos.features, targets, start, folds, fitting, tick)
    set_head(network, "attributes", fit(photos.features, targets, start, strength, fitting))
    return float(attribute_recall(logits, targets, spec.attribute_groups, (3,))["all"][3])


def _others(network: FashionNet, folder: Path | None, bars: Progress) -> NDArray[np.float32] | None:
    """Compute the features, float32 [M, F], of photos of none of the classes; None without a folder."""
    if folder is None:
        return None
    return features_of(network, read_photos(folder), _track(bars, "photos of other things")).values


def _judge(network: FashionNet, spec: ModelSpec, folder: Path, training: Photos, bars: Progress) -> Accuracy:
    """Measure the accuracy on a folder of class folders, without photos that are among the training photos too."""
    data = read_class_folders(folder)
    same = same_names(data.category_names, spec.categories)
    if other := [name for name in data.category_names if name not in same]:
        raise DataError(f"{folder}: {', '.join(other[:5])} is none of the classes that were taught")
    photos = load_photos(network, data, _track(bars, "test photos"), least=1)
    photos = without_training_photos(photos, training, spec.embedding_dim)
    if not len(photos.data):
        raise DataError(f"{folder}: every photo is among those to learn from: there is nothing left to judge on")
    labels = renumbered(photos.data, spec.categories).categories.astype(np.int64)
    return accuracy_of(head_of(network, "category").logits(photos.features), labels, photos.groups)


def _track(bars: Progress, description: str) -> Callable[[Sequence[int]], Iterable[int]]:
    return partial(bars.track, description=description)


def _ticker(bars: Progress, description: str, total: int) -> Callable[[], object]:
    """Add a progress bar of `total` steps; each call of the returned function advances it by one."""
    task = bars.add_task(description, total=total)
    return partial(bars.advance, task)
