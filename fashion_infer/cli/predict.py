"""The command `fashion-infer predict`."""

import json
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.progress import track
from rich.table import Table

from fashion_infer.cli.shared import Backend, Device, Json, Model, Threads, errors, out, say
from fashion_infer.errors import ImageError
from fashion_infer.images import MAX_PIXELS, expand_paths
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
) -> None:
    """Recognise the garment of each image. Exit code 4 when some of them could not be read.

    Examples:

        fashion-infer predict fashionnet-lite photo.jpg

        fashion-infer predict fashionnet.onnx photos/ --json > predictions.jsonl

        fashion-infer predict fashionnet.onnx 'photos/*.jpg' --save-vis drawn/
    """
    failed = 0
    paths = expand_paths(inputs)
    table = Table("image", "category", "attributes", "landmarks", "compute ms")
    with Predictor(
        model, device=device, backend=backend, threads=threads, max_batch=max_batch, max_pixels=max_pixels
    ) as predictor:
        for prediction in track(predictor.stream(paths), "predicting", len(paths), console=errors, transient=True):
            failed += prediction.error is not None
            if as_json:
                typer.echo(json.dumps(prediction.to_dict(embedding=embedding)))
            elif prediction.error is None:
                table.add_row(*_row(prediction))
            if prediction.error is not None:
                say(prediction.error)
            elif save_vis is not None:
                _save_picture(prediction, save_vis)
    if not as_json and table.row_count:
        out.print(table)
    if failed:
        raise ImageError(f"{failed} of {len(paths)} images could not be used")


def _row(prediction: Prediction) -> list[str]:
    attributes = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.attributes[:5])
    visible = sum(point.visibility == "visible" for point in prediction.landmarks)
    category = f"{prediction.category.name} {prediction.category.score:.2f}"
    if prediction.is_garment is not None and prediction.is_garment < 0.5:
        category = f"no garment? ({category})"
    return [str(prediction.image), category, attributes, f"{visible} visible", f"{prediction.timing['compute']:.1f}"]


def _save_picture(prediction: Prediction, folder: Path) -> None:
    """Named after the image and its folder's hash-free path, so that equal names of two folders do not collide."""
    name = str(prediction.image).lstrip("./").replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.jpg"), cv2.cvtColor(prediction.plot(), cv2.COLOR_RGB2BGR))
