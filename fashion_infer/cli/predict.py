"""The command `fashion-infer predict`."""

import json
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from fashion_infer.cli.shared import Backend, Device, Json, Model, Threads, errors, out, say
from fashion_infer.errors import ImageError, OutputError, UsageError
from fashion_infer.images import MAX_BYTES, MAX_PIXELS
from fashion_infer.inputs import expand_inputs
from fashion_infer.pictures import PictureFolder
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor


def predict(
    model: Model,
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or glob patterns.")],
    as_json: Json = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="Add the embedding to the JSON.")] = False,
    save_vis: Annotated[Path | None, typer.Option(help="Folder for pictures with the results drawn on them.")] = None,
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
    max_batch: Annotated[int, typer.Option(help="Images through the network at once, at most.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = MAX_PIXELS,
    max_bytes: Annotated[int, typer.Option(help="Refuse larger files.")] = MAX_BYTES,
) -> None:
    """Recognise the garment of each image. Exit code 4 when some of them could not be read.

    Examples:

        fashion-infer predict fashionnet-lite photo.jpg

        fashion-infer predict fashionnet.onnx photos/ --json > predictions.jsonl

        fashion-infer predict fashionnet.onnx 'photos/*.jpg' --save-vis drawn/
    """
    if embedding and not as_json:
        raise UsageError("--embedding goes with --json: the table has no room for it")
    images, unsaved = expand_inputs(inputs), 0
    drawings = None if save_vis is None else PictureFolder(save_vis)
    table = Table("image", "category", "attributes", "landmarks", "compute ms")
    bad = [Prediction.failed(argument, error) for argument, error in images.errors.items()]
    count, failed = len(bad) + len(images.paths), 0
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
        predictions = chain(bad, predictor.stream(images.paths))
        for prediction in track(predictions, "predicting", count, console=errors, transient=True):
            if as_json:
                typer.echo(json.dumps(prediction.to_dict(embedding=embedding)))
            elif prediction.error is None:
                table.add_row(*_row(prediction))
            if prediction.error is not None:
                say(prediction.error)
                failed += 1
            elif drawings is not None:
                unsaved += not _save(prediction, drawings)
    if not as_json and table.row_count:
        out.print(table)
    if failed:
        raise ImageError(f"{failed} of {count} images could not be used")
    if unsaved:
        raise OutputError(f"{unsaved} of {count} pictures could not be written to {save_vis}")


def _row(prediction: Prediction) -> list[str]:
    attributes = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.attributes[:5])
    visible = sum(point.visibility == "visible" for point in prediction.landmarks)
    category = f"{prediction.category.name} {prediction.category.score:.2f}"
    if prediction.is_garment is not None and prediction.is_garment < 0.5:
        category = f"no garment? ({category})"
    return [str(prediction.image), category, attributes, f"{visible} visible", f"{prediction.timing['compute']:.1f}"]


def _save(prediction: Prediction, drawings: PictureFolder) -> bool:
    """Write the picture of a result; an error is printed, so that the other results are not lost."""
    try:
        drawings.save(prediction.plot(), str(prediction.image))
    except OutputError as error:
        say(error)
        return False
    return True
