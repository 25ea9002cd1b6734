"""The command `fashion-infer predict`."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from fashion_infer.cli.shared import Backend, Device, Json, Model, Threads, errors, out, say
from fashion_infer.conversions import columns, to_coco, to_row
from fashion_infer.errors import ImageError, OutputError, UsageError
from fashion_infer.images import MAX_BYTES, MAX_PIXELS
from fashion_infer.inputs import expand_inputs
from fashion_infer.model_spec import VISIBILITY_NAMES
from fashion_infer.pictures import PictureFolder
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor
from fashion_infer.text import shown


class Format(StrEnum):
    """How predictions are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    COCO = "coco"


@dataclass
class _Tally:
    """Failures so far: images without a prediction, and pictures that could not be written."""

    failed: int = 0
    unsaved: int = 0


def predict(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or glob patterns.")],
    shape: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="table (the default), json (one line per image), csv, or coco (a data set with boxes and keypoints).",
        ),
    ] = None,
    as_json: Json = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="Add the embedding to the JSON.")] = False,
    save_vis: Annotated[Path | None, typer.Option(help="Folder for pictures with the results drawn on them.")] = None,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    max_batch: Annotated[int, typer.Option(help="Largest number of images in one batch.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = MAX_PIXELS,
    max_bytes: Annotated[int, typer.Option(help="Refuse larger files.")] = MAX_BYTES,
) -> None:
    """Recognise the garment of each image. Exit code 4 if some of them could not be read.

    On a terminal, one image is shown as a card and several as a table.

    Examples:

        fashion-infer predict fashionnet-lite photo.jpg

        fashion-infer predict fashionnet.onnx photos/ --json > predictions.jsonl

        fashion-infer predict fashionnet.onnx photos/ --format coco > predictions.coco.json

        fashion-infer predict fashionnet.onnx 'photos/*.jpg' --save-vis drawn/
    """
    shape = _chosen_format(shape, as_json, embedding)
    images, tally = expand_inputs(inputs), _Tally()
    drawings = None if save_vis is None else PictureFolder(save_vis)
    bad = [Prediction.failed(argument, error) for argument, error in images.errors.items()]
    count = len(bad) + len(images.paths)
    with Predictor(
        model,
        device=device,
        backend=backend,
        threads=threads,
        max_batch=max_batch,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        keep_pictures=drawings is not None,
    ) as predictor:
        stream = chain(bad, predictor.stream(images.paths))
        predictions = _watched(_with_progress(stream, count), drawings, tally)
        if shape is Format.JSON:
            for prediction in predictions:
                typer.echo(json.dumps(prediction.to_dict(embedding=embedding)))
        elif shape is Format.CSV:
            _print_csv(predictions, predictor.spec.landmarks)
        elif shape is Format.COCO:
            typer.echo(json.dumps(to_coco(predictions, predictor.spec)))
        else:
            _print_table(predictions, count)
    if tally.failed:
        raise ImageError(f"{tally.failed} of {count} images could not be used")
    if tally.unsaved:
        raise OutputError(f"{tally.unsaved} of {count} pictures could not be written to {save_vis}")


def _chosen_format(shape: Format | None, as_json: bool, embedding: bool) -> Format:
    if as_json and shape not in (None, Format.JSON):
        raise UsageError(f"--json and --format {shape} are two formats: give one of them")
    chosen = Format.JSON if as_json else shape or Format.TABLE
    if embedding and chosen is not Format.JSON:
        raise UsageError(f"--embedding goes with --json: {chosen} has no room for it")
    return chosen


def _with_progress(predictions: Iterable[Prediction], count: int) -> Iterator[Prediction]:
    columns = Progress.get_default_columns()
    # rich redirects printed text to the bar's console, stderr; that is right only if stdout is the same terminal
    with Progress(
        *columns, console=errors, transient=True, redirect_stdout=out.is_terminal, disable=not errors.is_interactive
    ) as progress:
        yield from progress.track(predictions, count, description="predicting")


def _watched(predictions: Iterable[Prediction], drawings: PictureFolder | None, tally: _Tally) -> Iterator[Prediction]:
    """Yield each prediction; when it has been printed, print its error or write its picture, and count failures."""
    for prediction in predictions:
        yield prediction
        if prediction.error is not None:
            say(prediction.error)
            tally.failed += 1
        elif drawings is not None:
            tally.unsaved += not _save(prediction, drawings)


def _print_csv(predictions: Iterable[Prediction], landmarks: tuple[str, ...]) -> None:
    """A line of column names and a line per prediction; lists are joined by semicolons, missing values are empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns(landmarks))
    for prediction in predictions:
        writer.writerow(map(_cell, to_row(prediction, landmarks).values()))


def _cell(value: Any) -> Any:
    """A value as CSV has it: exact for programs, without control characters for a terminal."""
    text = ";".join(value) if isinstance(value, list) else value
    return shown(text) if isinstance(text, str) and sys.stdout.isatty() else text


def _print_table(predictions: Iterable[Prediction], count: int) -> None:
    """Print a table, or a card for a single image on a terminal."""
    table = Table("image", "category", "attributes", "colours", "landmarks", "compute ms")
    for prediction in predictions:
        if prediction.error is None:
            last = prediction
            table.add_row(*_row(prediction))
    if count == 1 and table.row_count and out.is_terminal:
        out.print(_card(last))
    elif table.row_count:
        out.print(table)


def _row(prediction: Prediction) -> list[str]:
    attributes = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.attributes[:5])
    visible = sum(point.visibility == "visible" for point in prediction.landmarks)
    category = f"{prediction.category.name} {prediction.category.score:.2f}"
    if prediction.is_garment is not None and prediction.is_garment < 0.5:
        category = f"no garment? ({category})"
    milliseconds = f"{prediction.timing['compute']:.1f}"
    return [str(prediction.image), category, attributes, _colors(prediction), f"{visible} visible", milliseconds]


def _colors(prediction: Prediction) -> str:
    return ", ".join(f"{color.name} {color.share:.2f}" for color in prediction.colors or ())


def _card(prediction: Prediction) -> Table:
    """One prediction as lines with a name on the left and its value on the right."""
    card = Table.grid("", "", padding=(0, 2))
    card.columns[0].style = "dim"
    best, *others = (f"{label.name} {label.score:.2f}" for label in prediction.categories[:3])
    card.add_row("image", f"{prediction.image}  ({prediction.width} x {prediction.height} pixels)")
    card.add_row("category", f"{best}{'  or ' if others else ''}{', '.join(others)}")
    if prediction.is_garment is not None:
        doubt = "" if prediction.is_garment >= 0.5 else "  there may be no garment"
        card.add_row("a garment", f"{prediction.is_garment:.2f}{doubt}")
    for group in dict.fromkeys(label.group for label in prediction.attributes):
        labels = (f"{label.name} {label.score:.2f}" for label in prediction.attributes if label.group == group)
        card.add_row(group or "attributes", ", ".join(labels))
    card.add_row("colours", _colors(prediction))
    for visibility in VISIBILITY_NAMES:
        names = [point.name.replace("_", " ") for point in prediction.landmarks if point.visibility == visibility]
        if names:
            card.add_row(visibility, ", ".join(names))
    stages = (f"{stage} {milliseconds:.1f}" for stage, milliseconds in prediction.timing.items())
    card.add_row("time", f"{sum(prediction.timing.values()):.1f} ms: {', '.join(stages)}")
    return card


def _save(prediction: Prediction, drawings: PictureFolder) -> bool:
    """Write the picture of a result and return True; print an error and return False, so that the rest goes on."""
    try:
        drawings.save(prediction.plot(), str(prediction.image))
    except OutputError as error:
        say(error)
        return False
    return True
