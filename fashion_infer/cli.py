"""The command line: each command reads its arguments, calls one function and prints what it gave."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import cv2
import typer
from rich.console import Console
from rich.markup import escape
from rich.pretty import pprint
from rich.progress import Progress, track
from rich.table import Column, Table

from fashion_infer import __version__, doctor, models
from fashion_infer.errors import FashionInferError, ImageError, MissingExtraError, UsageError
from fashion_infer.images import MAX_PIXELS
from fashion_infer.inputs import expand_paths
from fashion_infer.judge import Judgement, Run, judge_folder
from fashion_infer.model_spec import ModelSpec
from fashion_infer.models import find_model
from fashion_infer.prediction import Prediction
from fashion_infer.predictor import Predictor

if TYPE_CHECKING:
    from fashion_infer.engine_file import EngineFile
    from fashion_infer.export.engine import BuildOptions
    from fashion_infer.export.parity import ParityReport
    from fashion_infer.export.quantize import Int8Options, Int8Report

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets in DeepFashion's layout.")
app.add_typer(data_app, name="data")

errors = Console(stderr=True, highlight=False)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Model = Annotated[
    str, typer.Argument(help="A file that fashion-infer export wrote, or a name that fashion-infer models lists.")
]
Device = Annotated[str | None, typer.Option(help="cpu (the default), or cuda:0; nothing falls back to another.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one batch; measured once for a model by default.")]


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and their exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        app()
    except FashionInferError as error:
        _say(error)
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
    model: Model,
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

        fashion-infer predict fashionnet-lite photo.jpg

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
                _say(prediction.error)
            elif save_vis is not None:
                _save_picture(prediction, save_vis)
    if not as_json and table.row_count:
        out.print(table)
    if failed:
        raise ImageError(f"{failed} of {len(paths)} images could not be used")


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="A checkpoint of fashion-infer train, an .onnx file, or a built-in name.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The .onnx file, or its folder; with --engine and an .onnx file or a name given, the .plan file.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos for the parity check; rendered ones by default.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16 or int8; by default fp32, or what the .onnx file has.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="For int8: folder of at least 16 photos like those to come.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="For int8: labelled photos in DeepFashion's layout; its val split is judged.")
    ] = None,
    budget: Annotated[
        float, typer.Option(help="For int8: how much worse than fp32's a metric on --data may be, as a share of it.")
    ] = 0.02,
    engine: Annotated[bool, typer.Option("--engine", help="Build a TensorRT engine as well.")] = False,
    flavour: Annotated[
        str | None, typer.Option(help="tensorrt, or rtx, which needs no GPU to build; by default what is installed.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Smallest, best and greatest batch of the engine.")] = "1:8:64",
    workspace: Annotated[int | None, typer.Option(help="MiB that a layer may take for scratch.")] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File that measured times are kept in; flavour tensorrt.")
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from sm80 on; flavour tensorrt.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one self-describing ONNX file and check that it gives what the network gives; --engine builds a plan too.

    On failure no file is left but an engine's build log, and the exit code is 1 for a failed check.

    Example:

        fashion-infer export run/model.safetensors -o fashionnet.onnx

        fashion-infer export fashionnet.onnx --precision fp16 -o fashionnet.fp16.onnx

        fashion-infer export fashionnet.onnx --precision fp16 --engine --batch 1:8:64

        fashion-infer export fashionnet.onnx --precision int8 --calibration photos/ --data data/category_attribute
    """
    from fashion_infer.export.steps import write_onnx

    int8 = _int8_options(precision, calibration, data, budget, engine)
    given, options = find_model(model), None
    if given.parent == models.FOLDER:
        output = output or Path()  # not among the package's own files
    if engine:
        from fashion_infer.export.engine import BuildOptions, resolve

        options = BuildOptions(flavour, _batch_range(batch), workspace, timing_cache, hardware_compatible)
        resolve(options)  # what is missing is said now, not after minutes of exporting
    with TemporaryDirectory(prefix="fashion-infer-") as scratch:
        to_plan = engine and given.suffix == ".onnx"  # then -o names the plan, and a narrower ONNX file is not kept
        with errors.status("exporting and checking parity"):
            target = Path(scratch) / "model.onnx" if to_plan else output
            onnx_file, report = write_onnx(given, target, precision, images, int8)
        if report is None and not engine:
            raise UsageError(
                f"{model} is an ONNX file already: say another --precision or --engine, or give a checkpoint"
            )
        plan, facts = None, None
        if options is not None:
            source = given if to_plan else onnx_file
            plan, facts = _build(onnx_file, output if to_plan else None, options, source)
        if as_json:
            result = {"onnx": None if to_plan else str(onnx_file), "parity": report and asdict(report)}
            typer.echo(json.dumps(result | {"plan": plan and str(plan), "engine": facts and asdict(facts)}))
            return
        if int8 is not None and report is not None:
            _print_int8(cast("Int8Report", report))
        elif report is not None:
            _print_parity(cast("ParityReport", report))
        for path in [plan] if to_plan else [onnx_file, plan]:
            if path is not None:
                out.print(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True)
        if facts is not None:
            out.print(
                f"{facts.precision}, TensorRT {facts.tensorrt} ({facts.flavour}), {len(facts.layers)} layers, of them "
                f"{facts.pooling_layers} for LandmarkPool; {facts.activation_bytes / 2**20:.0f} MiB of activations"
            )


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="An .onnx file, a .plan, a checkpoint, or a built-in name.")],
    as_json: Json = False,
) -> None:
    """Say what a model file is: its labels, operator sets, sizes, hashes and parity.

    Example:

        fashion-infer inspect fashionnet.onnx
    """
    from fashion_infer.export.inspect import inspect_file

    facts = inspect_file(find_model(file))
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        pprint(facts, console=out, expand_all=True, max_length=20, indent_guides=False)


@app.command()
def bench(
    model: Model,
    images: Annotated[Path | None, typer.Option(help="Folder of photos to time on; rendered ones by default.")] = None,
    as_json: Json = False,
    report: Annotated[Path | None, typer.Option(help="Folder for report.html, result.json and loadgen's logs.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An earlier result (JSON) to set beside this one.")] = None,
    fail_if: Annotated[list[str] | None, typer.Option(help="With --compare: a change that exits with code 1.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20 seconds, one process start, no load generator.")] = False,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="MLPerf's own minimum durations: hours.")] = False,
    starts: Annotated[int, typer.Option(help="Process starts, 1 to 10: more make the intervals narrower.")] = 3,
    seconds: Annotated[float | None, typer.Option(help="Of measuring in all; about two minutes by default.")] = None,
    device: Device = None,
    backend: Annotated[str | None, typer.Option(help="The runtime, where the file leaves a choice.")] = None,
    sessions: Annotated[int | None, typer.Option(help="Inferences at once; chosen by the machine by default.")] = None,
    threads: Threads = None,
) -> None:
    """Time a model end to end (encoded bytes in, Prediction out) and the network alone.

    Needs the extra bench (MLCommons' load generator, matplotlib, onnx); --quick without --report does not, and leaves
    out the MLPerf scenarios and the ceiling. A percentile is shown only with enough samples for it: 44 for p90, 459
    for p99, 4603 for p99.9; the intervals are of 95 % over process starts. A change that lies within its interval
    does not fail.

    Examples:
        fashion-infer bench fashionnet.onnx --images photos/ --report report/

        fashion-infer bench fashionnet.onnx --compare old.json --fail-if 'e2e.p99>5%' --fail-if 'e2e.images_per_s<-5%'
    """
    from fashion_infer.bench.command import run_bench

    run_bench(
        Path(model),
        images,
        out,
        as_json=as_json,
        report=report,
        compare=compare,
        fail_if=fail_if or [],
        starts=starts,
        seconds=seconds,
        quick=quick,
        mlperf=mlperf,
        device=device,
        backend=backend,
        sessions=sessions,
        threads=threads,
    )


@app.command("models")
def models_(as_json: Json = False) -> None:
    """Say which models are built in.

    Example:

        fashion-infer models
    """
    known = models.built_in()
    if as_json:
        typer.echo(json.dumps({name: asdict(model) for name, model in known.items()}))
        return
    table = Table(Column("name", no_wrap=True), "what it is", "file")
    for name, model in known.items():
        knows = f"{model.about} {len(model.categories)} categories, {len(model.attributes)} attributes."
        facts = (model.precision, f"{model.image_size} px", f"{model.bytes / 1e6:.1f} MB", model.licence)
        table.add_row(name, knows, f"{', '.join(facts)}, sha256 {model.sha256[:12]}")
    out.print(table)


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
    arch: Annotated[
        str, typer.Option(help="vgg16 for the paper's network, or a timm backbone.")
    ] = "tf_efficientnet_lite0",
    pairs: Annotated[Path | None, typer.Option(help="A retrieval benchmark, for the triplet loss.")] = None,
    weights: Annotated[Path | None, typer.Option(help="ImageNet weights of the backbone; random by default.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the network's input, a multiple of 32.")] = 224,
    width: Annotated[float, typer.Option(help="Of the heads and of vgg16, 1 is the paper's.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-4,
    rounds: Annotated[int, typer.Option(help="Turns of the paper's two stages; 0 trains jointly.")] = 2,
    pooling: Annotated[str, typer.Option(help="At the predicted landmarks, at a fixed grid, or none.")] = "landmarks",
    gate: Annotated[bool, typer.Option(help="Whether invisible landmarks are gated.")] = True,
    pooled_size: Annotated[int, typer.Option(help="Of LandmarkPool, outputs a side.")] = 4,
    bin_size: Annotated[int, typer.Option(help="Of LandmarkPool, cells a side of each output.")] = 2,
    losses: Annotated[
        str, typer.Option(help="Those to train, with commas.")
    ] = "landmarks,visibility,category,attributes,triplet",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or on CUDA fp16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0, ...")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that decode images.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train a FashionNet: the paper's losses and its two stages, pooling at predicted landmarks.

    Ctrl-C saves and stops with exit code 130; --resume goes on to the same loss curve.

    Examples:

        fashion-infer train --data data/category_attribute --pairs data/in_shop -o run --epochs 5 --image-size 128

        fashion-infer train --data data/category_attribute -o run --arch vgg16 --precision bf16 --device cuda
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
        pooling=pooling,
        gate=gate,
        pooled_size=pooled_size,
        bin_size=bin_size,
        losses=tuple(losses.split(",")),
        precision=precision,
        device=device,
        workers=workers,
        seed=seed,
    )
    try:
        checkpoint = train_folder(config, data, output, pairs=pairs, backbone_weights=weights, resume=resume)
    except KeyboardInterrupt as stop:
        errors.print(str(stop) or "stopped at once: --resume goes on from the last saved state")
        raise typer.Exit(130) from stop
    out.print(f"{checkpoint}: fashion-infer export {checkpoint} -o fashionnet.onnx", soft_wrap=True)


@app.command("eval")
def eval_(
    model: Annotated[Path, typer.Argument(help="An exported model, a built-in name, or a checkpoint.")],
    data: Annotated[Path, typer.Option(help="Folder of one of DeepFashion's benchmarks, or of several.")],
    split: Annotated[str, typer.Option(help="Of the images; In-shop's test are its queries and gallery.")] = "test",
    benchmark: Annotated[
        str | None,
        typer.Option(help="category, category_fine, in_shop, consumer_to_shop or landmarks; all by default."),
    ] = None,
    as_json: Json = False,
    device: Device = None,
    threads: Threads = None,
    batch_size: Annotated[int, typer.Option(help="Images through the network at once.")] = 32,
) -> None:
    """Measure a model by the paper's protocols; the paper's own numbers stand beside them on the real DeepFashion only.

    Examples:

        fashion-infer eval fashionnet.onnx --data data

        fashion-infer eval run/model.safetensors --data data --benchmark in_shop --json
    """
    with _runner(model, device, threads, batch_size) as (run, spec):
        found = judge_folder(run, spec, data, benchmark=benchmark, split=split, batch_size=batch_size, progress=True)
    if as_json:
        typer.echo(json.dumps({name: judgement.to_dict() for name, judgement in found.items()}))
        return
    for name, judgement in found.items():
        out.print(_judgement_table(name, judgement))
        for what, names in judgement.remarks():
            out.print(f"{len(names)} {what}: {', '.join(names[:5])}", soft_wrap=True, markup=False)


@data_app.command("check")
def check_(
    folder: Annotated[Path, typer.Argument(help="Of one benchmark, or of several.")],
    as_json: Json = False,
    images: Annotated[bool, typer.Option(help="Decode every image; the full set takes many minutes.")] = True,
) -> None:
    """Say what is there of DeepFashion, what is missing and what is broken. Exit code 1 with findings.

    Examples:

        fashion-infer data check data

        fashion-infer data check data --no-images --json
    """
    from fashion_infer.data.deepfashion_check import check

    report = check(folder, images=images, progress=True)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        out.print(*report.lines(), sep="\n", soft_wrap=True, markup=False, highlight=False)
    if not report.ok:
        raise typer.Exit(1)


@data_app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="Where to write; one folder for each of the four benchmarks.")],
    images: Annotated[int, typer.Option(help="How many to render.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same set.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 256,
) -> None:
    """Render garments with true labels in DeepFashion's own layout.

    Example:

        fashion-infer data synth garments --images 500
    """
    from fashion_infer.data.synthetic import write_dataset

    write_dataset(folder, images=images, seed=seed, size=size)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for report.html, and with --train for the model.")
    ] = Path("demo"),
    photos: Annotated[Path | None, typer.Option(help="Folder of your own photos to predict on too.")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="The whole chain, minutes: render, train, export, verify, predict, time.")
    ] = False,
) -> None:
    """Show what the built-in model makes of pictures, and how fast, in a report; under a minute.

    Needs the extra demo (scikit-image, for its photos), and with --train the extra train as well.

    Examples:

        fashion-infer demo --photos photos/

        fashion-infer demo --train
    """
    if train:
        from fashion_infer.demo_train import run_training_demo as run
    else:
        from fashion_infer.demo import run_demo as run

    report = run(output, photos, out)
    out.print(f"open {report}", soft_wrap=True)


def _say(error: FashionInferError) -> None:
    """On stderr, to the letter: an extra's name is in brackets, which are no markup."""
    errors.print("[red]error:[/red]", escape(str(error)), soft_wrap=True)


def _build(onnx_file: Path, plan: Path | None, options: "BuildOptions", source: Path) -> "tuple[Path, EngineFile]":
    """Build an engine with a progress bar."""
    from fashion_infer.export.engine import build_engine

    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("building", total=None)

        def report(phase: str, step: int, steps: int) -> bool:
            progress.update(task, description=phase, completed=step + 1, total=steps)
            return True

        return build_engine(onnx_file, plan, options, source=source, report=report)


def _int8_options(
    precision: str | None, calibration: Path | None, data: Path | None, budget: float, engine: bool
) -> "Int8Options | None":
    if precision != "int8" and (calibration or data):
        raise UsageError("--calibration and --data go with --precision int8")
    if precision != "int8" or calibration is None:
        return None
    from fashion_infer.data.deepfashion import read_category
    from fashion_infer.export.quantize import Int8Options

    labelled = None if data is None else read_category(data).split("val")
    return Int8Options(calibration, "tensorrt" if engine else "cpu", labelled, budget)


def _print_int8(report: "Int8Report") -> None:
    table = Table(
        "output", "mean difference", title=f"int8 against fp32 on {report.images} pictures", title_justify="left"
    )
    for name, difference in report.differences.items():
        table.add_row(name, f"{difference:.2g}")
    out.print(table, f"{report.layers - len(report.float_layers)} of {report.layers} layers in 8 bits")
    if report.accuracy is None:
        out.print("accuracy unverified: there was no --data to judge it on")
        return
    metrics = Table("metric", "fp32", "int8")
    for name, (before, after) in report.accuracy.items():
        metrics.add_row(name, f"{before:.4f}", f"{after:.4f}")
    out.print(metrics)


def _print_parity(report: "ParityReport") -> None:
    table = Table("output", "greatest difference", title=f"parity on {report.images} pictures", title_justify="left")
    for name, difference in report.differences.items():
        table.add_row(name, f"{difference:.2g}")
    out.print(
        table, f"{report.same_cells:.0%} of the pictures pool from the same cells; tolerance {report.tolerance:g}"
    )


@contextmanager
def _runner(model: Path, device: str | None, threads: int | None, batch_size: int) -> Iterator[tuple[Run, ModelSpec]]:
    """A model's `run` and spec: of a checkpoint by torch, of anything else by a Predictor."""
    if model.suffix != ".safetensors":
        with Predictor(model, device=device, threads=threads, max_batch=batch_size) as predictor:
            yield predictor.run, predictor.spec
        return
    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.trainer import network_run

    network, spec = load_checkpoint(model)
    yield network_run(network, spec, device or "cpu"), spec


def _judgement_table(name: str, judgement: Judgement) -> Table:
    table = Table("measure", "value", title=f"{name}, {judgement.images} images", title_justify="left")
    if judgement.published:
        table.add_column("FashionNet in the paper")
    for measure, value, published in judgement.rows():
        paper = ["" if published is None else f"{published:.4f}"] if judgement.published else []
        table.add_row(measure, f"{value:.4f}", *paper)
    return table


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


def _batch_range(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"{text!r} is no batch range: it is smallest:best:greatest, such as 1:8:64")
    smallest, best, greatest = map(int, parts)
    return smallest, best, greatest
