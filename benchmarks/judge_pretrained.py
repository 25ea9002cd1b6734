"""Evaluate a built-in model on the real photos: `python benchmarks/judge_pretrained.py PHOTOS MODEL [--worn WORN]`.

Lying and worn garments are evaluated separately: category, attribute groups and landmarks beside the agreement of two
readings, calibration, the garment score, and ten classes by a linear probe on the embedding. The 95 % intervals are
Wilson's for shares and the bootstrap's for the rest. The script writes a .json and an .md file named after the model,
such as fashionnet_lite.json. Run it once per released model, since it uses the test split.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from garment_score import as_rgb
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage import data as samples
from sklearn.linear_model import LogisticRegression

from fashion_infer import Prediction, Predictor
from fashion_infer.bench.environment import environment, provenance
from fashion_infer.data.deepfashion import FashionData, read_category
from fashion_infer.evaluation.measures import attribute_recall
from fashion_infer.files import write_atomically

AGREEMENT = {  # agreement of two readings of the test photos, from the READMEs of the two sets
    "lying": {
        "category": 0.920, "texture": 0.972, "sleeve": 0.990, "length": 0.993, "neckline": 0.976, "fabric": 0.944,
        "fit": 0.840, "landmark visibility": 0.998, "landmark distance": 0.0135,
    },
    "worn": {
        "category": 0.924, "texture": 0.918, "sleeve": 0.973, "length": 0.983, "neckline": 0.911, "fabric": 0.893,
        "fit": 0.828, "landmark visibility": 0.906, "landmark distance": 0.0226,
    },
}  # fmt: skip
CLASSES = ("t-shirt", "longsleeve", "pants", "shoes", "shirt", "dress", "outwear", "shorts", "hat", "skirt")
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # values of C for the probe; validation chooses one
BINS = 10  # bins of the calibration error
RESULTS = Path(__file__).parent / "results"
console = Console(stderr=True)
Bools = NDArray[np.bool_]


def main(
    photos: Annotated[Path, typer.Argument(help="The labelled photos.")],
    model: Annotated[str, typer.Argument(help="A built-in name or a file.")] = "fashionnet-lite",
    worn: Annotated[Path | None, typer.Option(help="Worn garments made by benchmarks/worn_photos.py.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Measure every figure of the model card and write them."""
    sets = {"lying": read_category(photos)} | ({"worn": read_category(worn)} if worn else {})
    with Predictor(model) as predictor:
        measured: dict[str, Any] = {
            "provenance": provenance(),
            "environment": environment(),
            "model": model,
            "sha256": predictor.sha256,
        }
        for kind, data in sets.items():
            measured[kind] = {split: labelled(predictor, data.split(split)) for split in ("val", "test")}
        measured["ten_classes"] = ten_classes(predictor, photos / "Img" / "img")
        measured["is_garment"] = garment_rates(predictor, photos / "Img" / "img")
    output.mkdir(parents=True, exist_ok=True)
    text, name = json.dumps(measured, indent=1) + "\n", Path(model).stem.replace("-", "_")
    write_atomically(output / f"{name}.json", lambda path: path.write_text(text))
    write_atomically(output / f"{name}.md", lambda path: path.write_text(table(measured)))
    console.print(table(measured))


def labelled(predictor: Predictor, data: FashionData) -> dict[str, Any]:
    """Evaluate category, attribute groups, landmarks and calibration on labelled photos, each cut out by its box."""
    predictions = [
        predictor.predict(data.image_root / name, boxes=[box])[0]
        for name, box in track(list(zip(data.images, data.boxes, strict=True)), "labelled", console=console)
    ]
    true = [data.category_names[i] for i in data.categories]
    ranks = np.array([rank_of(p, name) for p, name in zip(predictions, true, strict=True)])
    scores = np.array([p.category.score for p in predictions])
    distances = landmark_distances(predictions, data)
    attributes = attribute_scores(predictor, predictions, data)
    recall = {
        f"top{k}": v for k, v in attribute_recall(attributes, data.attributes, data.attribute_groups)["all"].items()
    }
    return {
        "photos": len(data),
        "unknown_categories": sorted(set(true) - set(predictor.spec.categories)),
        "attribute_recall": recall,
        "is_garment": share(np.array([(p.is_garment or 0.0) >= 0.5 for p in predictions])),
        "category": {f"top{k}": share(ranks < k) for k in (1, 3, 5)},
        "groups": {group: share(right) for group, right in group_hits(attributes, data).items()},
        "visibility": share(visibility_hits(predictions, data)),
        "landmark_error": interval(distances, mean_of_landmarks),
        "landmark_median": float(np.nanmedian(distances)),
        "landmark_p95": float(np.nanpercentile(distances, 95)),
        "calibration_error": interval(np.stack([scores, ranks == 0], 1), calibration_error),
        "calibration_error_by_chance": interval_by_chance(scores),
    }


def rank_of(prediction: Prediction, name: str) -> int:
    """Return how many categories score higher than the true one; all, if the model does not have that category."""
    names = [label.name for label in prediction.categories]
    return names.index(name) if name in names else len(names)


def attribute_scores(predictor: Predictor, predictions: list[Prediction], data: FashionData) -> NDArray[np.float64]:
    """Return the scores of the set's attributes, [N, A]; -1 for attributes that the model does not have."""
    places = {name: i for i, name in enumerate(predictor.spec.attributes)}
    names = data.attribute_names
    return np.array([[p.attribute_scores[places[n]] if n in places else -1.0 for n in names] for p in predictions])


def group_hits(scores: NDArray[np.float64], data: FashionData) -> dict[str, Bools]:
    """Return for each attribute group whether its best-scoring attribute is one of the labelled ones, bool [N]."""
    hits = {}
    for group in dict.fromkeys(data.attribute_groups):
        columns = np.flatnonzero([name == group for name in data.attribute_groups])
        best = columns[scores[:, columns].argmax(1)]
        hits[group] = data.attributes[np.arange(len(data)), best] > 0
    return hits


def landmark_distances(predictions: list[Prediction], data: FashionData) -> NDArray[np.float64]:
    """Return the distances of visible landmarks, [N, 8], in widths and heights of the photo; NaN for the others."""
    predicted = np.array([[(point.x, point.y) for point in p.landmarks] for p in predictions])
    sizes = np.array([[(p.width, p.height)] for p in predictions])
    distances = np.linalg.norm((predicted - data.landmarks) / sizes, axis=2)
    return np.where(data.visibility == 0, distances, np.nan)


def visibility_hits(predictions: list[Prediction], data: FashionData) -> Bools:
    """Return for every landmark that the clothes have whether it is predicted as visible or not, as labelled."""
    visible = np.array([[point.visibility == "visible" for point in p.landmarks] for p in predictions])
    has = data.visibility >= 0
    return np.asarray((visible == (data.visibility == 0))[has])


def mean_of_landmarks(distances: NDArray[np.float64]) -> float:
    """Compute the paper's NE: the mean over the landmarks of each landmark's mean distance."""
    counts = (~np.isnan(distances)).sum(0)
    return float((np.nansum(distances, axis=0)[counts > 0] / counts[counts > 0]).mean())


def calibration_error(scored: NDArray[np.float64]) -> float:
    """Compute the expected calibration error of rows (score, correct), with ten equal bins (Guo et al., ICML 2017)."""
    bins = np.minimum((scored[:, 0] * BINS).astype(int), BINS - 1)
    gaps = [abs((scored[bins == b, 0] - scored[bins == b, 1]).sum()) for b in range(BINS)]
    return float(sum(gaps) / len(scored))


def interval_by_chance(scores: NDArray[np.float64]) -> dict[str, float]:
    """Return the calibration error that a perfectly calibrated model would show on as few photos.

    Each photo counts as correct with a probability equal to its score. "value" is the mean of 1,000 such draws.
    """
    rng = np.random.default_rng(0)
    draws = [calibration_error(np.stack([scores, rng.random(len(scores)) < scores], 1)) for _ in range(1000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": float(np.mean(draws)), "low": float(low), "high": float(high)}


def ten_classes(predictor: Predictor, images: Path) -> dict[str, Any]:
    """Measure a linear probe on the embeddings of whole photos, on the published split of the ten classes."""
    sets = {}
    for split in ("train", "validation", "test"):
        files = [(path, name) for name in CLASSES for path in sorted((images / split / name).glob("*.jpg"))]
        predictions = predictor.stream(track([path for path, _ in files], split, console=console))
        sets[split] = (np.stack([p.embedding for p in predictions]), np.array([name for _, name in files]))
    probes = {c: LogisticRegression(C=c, max_iter=2000).fit(*sets["train"]) for c in STRENGTHS}
    chosen = max(STRENGTHS, key=lambda c: probes[c].score(*sets["validation"]))
    hits = {split: probes[chosen].predict(embeddings) == names for split, (embeddings, names) in sets.items()}
    return {"C": chosen} | {split: share(right) for split, right in hits.items()}


def garment_rates(predictor: Predictor, images: Path) -> dict[str, Any]:
    """Measure the share of whole photos with a garment score of at least 0.5, by split and class.

    Also returned are the scores of four pictures without a garment.
    """
    rates: dict[str, Any] = {}
    for split in ("validation", "test"):
        for name in CLASSES:
            predictions = predictor.stream(sorted((images / split / name).glob("*.jpg")))
            rates[f"{split} {name}"] = share(np.array([(p.is_garment or 0.0) >= 0.5 for p in predictions]))
    for name in ("astronaut", "cat", "coffee", "camera"):
        rates[name] = predictor.predict(as_rgb(getattr(samples, name)())).is_garment
    return rates


def share(hits: Bools) -> dict[str, float]:
    """Return the share of hits with Wilson's 95 % interval."""
    n, p, z = len(hits), float(np.mean(hits)), 1.96
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return {"value": p, "low": float(middle - half), "high": float(middle + half)}


def interval(rows: NDArray[Any], statistic: Any) -> dict[str, float]:
    """Return a statistic of the rows with the bootstrap's 95 % interval."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": statistic(rows), "low": float(low), "high": float(high)}


def table(measured: dict[str, Any]) -> str:
    """Return the figures of the model card as Markdown, lying and worn garments side by side."""
    kinds = [kind for kind in AGREEMENT if kind in measured]
    head = [f"{kind}, {column}" for kind in kinds for column in ("val", "test", "two readings agree")]
    lines = ["| measure | " + " | ".join(head) + " |", "|---" * (1 + len(head)) + "|"]
    lines += [_row(measured, kinds, f"category top-{k}", ("category", f"top{k}"), _percent) for k in (1, 3, 5)]
    groups = measured[kinds[0]]["test"]["groups"]
    lines += [_row(measured, kinds, group, ("groups", group), _percent) for group in groups]
    lines.append(_row(measured, kinds, "landmark visibility", ("visibility",), _percent))
    lines.append(_row(measured, kinds, "landmark NE", ("landmark_error",), _number))
    lines.append(_row(measured, kinds, "expected calibration error", ("calibration_error",), _number))
    lines.append(_row(measured, kinds, "the same, if perfectly calibrated", ("calibration_error_by_chance",), _number))
    lines.append(_row(measured, kinds, "is_garment of the box at least 0.5", ("is_garment",), _percent))
    for k in (3, 5):
        lines.append(
            _row(measured, kinds, f"attribute recall@{k}, all", ("attribute_recall", f"top{k}"), "{:.1%}".format)
        )
    ten = measured["ten_classes"]
    lines += ["", "| measure | validation | test |", "|---|---|---|"]
    return "\n".join(
        [
            *lines,
            f"| ten classes, probe on the embedding | {_percent(ten['validation'])} | {_percent(ten['test'])} |",
            "",
        ]
    )


def _row(
    measured: dict[str, Any], kinds: list[str], name: str, keys: tuple[str, ...], text: Callable[[Any], str]
) -> str:
    cells = []
    for kind in kinds:
        for split in ("val", "test"):
            value = measured[kind][split]
            for key in keys:
                value = value[key]
            cells.append(text(value))
        readers_name = {"category top-1": "category", "landmark NE": "landmark distance"}.get(name, name)
        agreed = AGREEMENT[kind].get(readers_name)
        cells.append("" if agreed is None else f"{agreed}" if readers_name == "landmark distance" else f"{agreed:.1%}")
    return f"| {name} | " + " | ".join(cells) + " |"


def _percent(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"


def _number(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4f} ({estimate['low']:.4f} to {estimate['high']:.4f})"


if __name__ == "__main__":
    typer.run(main)
