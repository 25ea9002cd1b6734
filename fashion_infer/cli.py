"""The command line: each command reads its arguments, calls one function and prints what it gave."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from rich.console import Console
from rich.pretty import pprint
from rich.progress import track
from rich.table import Table

from fashion_infer import __version__, doctor
from fashion_infer.errors import FashionInferError, ImageError, MissingExtraError
from fashion_infer.images import MAX_PIXELS, expand_paths
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets in DeepFashion's layout.")
app.add_typer(data_app, name="data")

errors = Console(stderr=True, highlight=False)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Device = Annotated[str | None, typer.Option(help="cpu (the default), or cuda:0; nothing falls back to another.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one batch; measured once for a model by default.")]


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and their exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        app()
    except FashionInferError as error:
        errors.print(f"[red]error:[/red] {error}", soft_wrap=True, markup=True)
        sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Clothing category, attributes, landmarks and a retrieval embedding from one forward pass."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A file that fashion-infer export wrote.")],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders or glob patterns.")],
    as_json: Json = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="Add the embedding to the JSON.")] = False,
    save_vis: Annotated[Path | None, typer.Option(help="Folder for pictures with the results drawn on them.")] = None,
    device: Device = None,
    threads: Threads = None,
    max_batch: Annotated[int, typer.Option(help="Images through the network at once, at most.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Refuse images with more pixels.")] = MAX_PIXELS,
) -> None:
    """Recognise the garment of each image. Exit code 4 when some of them could not be read.

    Examples:

        fashion-infer predict fashionnet.onnx photo.jpg

        fashion-infer predict fashionnet.onnx photos/ --json > predictions.jsonl

        fashion-infer predict fashionnet.onnx 'photos/*.jpg' --save-vis drawn/
    """
    failed = 0
    paths = expand_paths(inputs)
    table = Table("image", "category", "attributes", "landmarks", "compute ms")
    with Predictor(model, device=device, threads=threads, max_batch=max_batch, max_pixels=max_pixels) as predictor:
        for prediction in track(predictor.stream(paths), "predicting", len(paths), console=errors, transient=True):
            failed += prediction.error is not None
            if as_json:
                typer.echo(json.dumps(prediction.to_dict(embedding=embedding)))
            elif prediction.error is None:
                table.add_row(*_row(prediction))
            if prediction.error is not None:
                errors.print(f"[red]error:[/red] {prediction.error}", soft_wrap=True)
            elif save_vis is not None:
                _save_picture(prediction, save_vis)
    if not as_json and table.row_count:
        out.print(table)
    if failed:
        raise ImageError(f"{failed} of {len(paths)} images could not be used")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors checkpoint of fashion-infer train.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The .onnx file; beside the checkpoint by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photos for the parity check; rendered ones by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write one self-describing ONNX file and check that it gives what the network gives.

    On failure no file is left, and the exit code is 1 for a failed check.

    Example:

        fashion-infer export run/model.safetensors -o fashionnet.onnx
    """
    from fashion_infer.export.onnx_model import export_onnx

    output = output or checkpoint.with_suffix(".onnx")
    with errors.status("exporting and checking parity"):
        report = export_onnx(checkpoint, output, images)
    if as_json:
        typer.echo(report.to_json())
        return
    table = Table("output", "greatest difference", title=f"parity on {report.images} pictures", title_justify="left")
    for name, difference in report.differences.items():
        table.add_row(name, f"{difference:.2g}")
    out.print(table, f"{report.same_cells:.0%} of the pictures pool from the same cells; tolerance {report.tolerance:g}")
    out.print(f"{output} ({output.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True)


@app.command()
def inspect(file: Annotated[Path, typer.Argument(help="An .onnx file or a checkpoint.")], as_json: Json = False) -> None:
    """Say what a model file is: its labels, operator sets, sizes, hashes and parity.

    Example:

        fashion-infer inspect fashionnet.onnx
    """
    from fashion_infer.export.inspect import inspect_file

    facts = inspect_file(file)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        pprint(facts, console=out, expand_all=True, max_length=20, indent_guides=False)


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="A file that fashion-infer export wrote.")],
    images: Annotated[Path | None, typer.Option(help="Folder of photos to time on; rendered ones by default.")] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes for throughput.")] = "1,8,32",
    seconds: Annotated[float, typer.Option(help="That each measurement takes at most.")] = 12,
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Time a model end to end (encoded bytes in, Prediction out) and the network alone.

    A percentile is shown only with enough samples for it: 44 for p90, 459 for p99.

    Example:

        fashion-infer bench fashionnet.onnx --images photos/
    """
    from fashion_infer.bench import report, scenarios

    result = scenarios.bench_model(
        model, images, batch_sizes=_integers(batch), seconds=seconds, device=device, threads=threads
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        out.print(report.latency_table(result), report.stage_table(result), report.throughput_table(result))


@app.command("doctor")
def doctor_(as_json: Json = False) -> None:
    """Say what is installed and which backends work. Exit code 3 when none does.

    Example:

        fashion-infer doctor
    """
    installed, backends, conflicts = doctor.installed(), doctor.backends(), doctor.conflicts()
    if as_json:
        facts = {"installed": installed, "backends": [vars(b) for b in backends], "conflicts": conflicts}
        typer.echo(json.dumps(facts))
    else:
        packages = Table("package", "version", "extra")
        for name, found in installed.items():
            packages.add_row(name, found or "-", doctor.PACKAGES.get(name, ""))
        status = Table("backend", "works", "detail")
        for backend in backends:
            status.add_row(backend.name, "yes" if backend.works else "no", backend.detail)
        out.print(packages, status, *conflicts)
    if not any(backend.works for backend in backends):
        raise MissingExtraError('no backend works here: pip install "fashion-infer[cpu]"')


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="DeepFashion's Category and Attribute Prediction benchmark, unpacked.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    arch: Annotated[str, typer.Option(help="vgg16 for the paper's network, or a timm backbone.")] = "tf_efficientnet_lite0",
    pairs: Annotated[Path | None, typer.Option(help="In-shop Retrieval benchmark, for the triplet loss.")] = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone; random by default.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the network's input, a multiple of 32.")] = 224,
    width: Annotated[float, typer.Option(help="Of the heads and of vgg16, 1 is the paper's.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-4,
    rounds: Annotated[int, typer.Option(help="Turns of the paper's two stages; 0 trains jointly.")] = 2,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that decode images.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a FashionNet: the paper's losses and its two stages, pooling at predicted landmarks.

    Example:

        fashion-infer train --data data/category_attribute --pairs data/in_shop -o run --epochs 5 --image-size 128
    """
    from fashion_infer.training.trainer import TrainConfig, train_folder

    config = TrainConfig(
        backbone=arch,
        image_size=image_size,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        rounds=rounds,
        precision=precision,
        device=device,
        workers=workers,
        seed=seed,
    )
    checkpoint = train_folder(config, data, output, pairs=pairs, backbone_weights=weights, resume=resume)
    out.print(f"{checkpoint}: fashion-infer export {checkpoint} -o fashionnet.onnx", soft_wrap=True)


@data_app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="Where to write; one folder for each of the four benchmarks.")],
    images: Annotated[int, typer.Option(help="How many to render.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same set.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 256,
) -> None:
    """Render garments with true labels in DeepFashion's own layout.

    Example:

        fashion-infer data synth data --images 500
    """
    from fashion_infer.data.synthetic import write_dataset

    write_dataset(folder, images=images, seed=seed, size=size)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the model, the pictures and report.html.")] = Path("demo"),
    photos: Annotated[Path | None, typer.Option(help="Folder of your own photos to predict on too.")] = None,
) -> None:
    """Go through the whole chain on this machine: render, train, export, predict, bench, report.

    Example:

        fashion-infer demo -o demo
    """
    from fashion_infer.demo import run_demo

    report = run_demo(output, photos, out)
    out.print(f"open {report}", soft_wrap=True)


def _row(prediction: Prediction) -> list[str]:
    attributes = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.attributes[:5])
    visible = sum(point.visibility == "visible" for point in prediction.landmarks)
    category = f"{prediction.category.name} {prediction.category.score:.2f}"
    return [str(prediction.image), category, attributes, f"{visible} visible", f"{prediction.timing['compute']:.1f}"]


def _save_picture(prediction: Prediction, folder: Path) -> None:
    """Named after the image and its folder's hash-free path, so that equal names of two folders do not collide."""
    name = str(prediction.image).lstrip("./").replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.jpg"), cv2.cvtColor(prediction.plot(), cv2.COLOR_RGB2BGR))


def _integers(text: str) -> list[int]:
    values: list[Any] = [part.strip() for part in text.split(",")]
    if not all(value.isdigit() and int(value) > 0 for value in values):
        raise typer.BadParameter(f"{text!r} is not a list of batch sizes such as 1,8,32")
    return [int(value) for value in values]
