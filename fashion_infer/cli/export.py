"""The command `fashion-infer export`."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.progress import Progress
from rich.table import Table

from fashion_infer.cli.shared import Json, errors, out, refuse_options
from fashion_infer.errors import UsageError
from fashion_infer.files import check_folder, check_place
from fashion_infer.models import FOLDER, find_model

if TYPE_CHECKING:
    from fashion_infer.evaluation.parity import ParityReport
    from fashion_infer.export.quantize import Int8Options, Int8Report
    from fashion_infer.tensorrt.build import BuildOptions
    from fashion_infer.tensorrt.engine_file import EngineFile

BATCH, BUDGET = "1:1:4,5:32:32", 0.02


def export(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A checkpoint of fashion-infer train, an .onnx file, or a built-in name.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The .onnx file to write, or its folder; with --engine and an .onnx MODEL the .plan file to write.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos for the parity check; rendered garments by default.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16, bf16 or int8; by default fp32, or the precision of the .onnx file.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="For int8: folder of at least 16 photos that are typical of your use.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="For int8: labelled photos in DeepFashion's layout; the val split is used.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help=f"For int8: largest relative loss of a metric on --data against fp32; {BUDGET} by default."),
    ] = None,
    engine: Annotated[bool, typer.Option("--engine", help="Build a TensorRT engine as well.")] = False,
    flavour: Annotated[
        str | None, typer.Option(help="tensorrt, or rtx, which needs no GPU to build; by default the installed one.")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Smallest, optimal and largest batch of the engine, or several ranges separated by commas; kernels "
            f"are chosen for the optimal one; {BATCH} by default."
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a model repository for NVIDIA's Triton server as well, with the ONNX file and the TensorRT "
            "engines in its folder that were built from it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a self-describing ONNX file and check its outputs against the network; --engine also builds an engine.

    After a failure no file remains except an engine's build log. The exit code is 1 if the check failed.

    Example:

        fashion-infer export run/model.safetensors -o fashionnet.onnx

        fashion-infer export fashionnet.onnx --precision fp16 -o fashionnet.fp16.onnx

        fashion-infer export fashionnet.onnx --precision fp16 --engine --batch 1:1:4,5:64:64

        fashion-infer export fashionnet.onnx --precision int8 --calibration photos/ --data data/category_attribute

        fashion-infer export fashionnet.onnx --triton models/
    """
    from fashion_infer.export.steps import write_onnx

    if not engine and (flavour or batch):
        raise UsageError("--flavour and --batch are of an engine: add --engine")
    if images is not None and precision == "int8":
        raise UsageError("--images is for the parity check: int8 is compared with fp32 on --calibration")
    int8 = _int8_options(precision, calibration, data, budget, engine)
    source = find_model(model)
    if source.parent == FOLDER:
        output = output or Path()  # not in the package's own folder
    options = _build_options(flavour, batch) if engine else None
    to_plan = engine and source.suffix == ".onnx"  # then -o is the .plan file, and a narrower ONNX file is not kept
    if triton is not None and options is not None:
        _check_triton_runs(options)
    if output is not None and not output.is_dir():
        check_place(output)
    if triton is not None:
        check_folder(triton)
    plan, facts = None, None
    with TemporaryDirectory(prefix="fashion-infer-") as scratch:
        with errors.status("exporting and checking parity"):
            target = Path(scratch) / "model.onnx" if to_plan else output
            onnx_file, report = write_onnx(source, target, precision, images, int8)
        if report is None:
            _check_unchanged(model, context, engine, triton)
        if options is not None:
            plan, facts = _build(onnx_file, output if to_plan else None, options, source if to_plan else onnx_file)
    served = [] if triton is None else _write_repository(source if to_plan else onnx_file, triton, plan)
    if as_json:
        result: dict[str, object] = {"onnx": None if to_plan else str(onnx_file), "parity": report and asdict(report)}
        result |= {"plan": plan and str(plan), "engine": facts and asdict(facts)}
        typer.echo(json.dumps(result | ({} if triton is None else {"triton": [str(model) for model in served]})))
        return
    if int8 is not None and report is not None:
        _print_int8(cast("Int8Report", report))
    elif report is not None:
        _print_parity(cast("ParityReport", report))
    for path in [plan] if to_plan else [onnx_file, plan]:
        if path is not None and path != source:
            out.print(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)", soft_wrap=True)
    if facts is not None:
        _print_engine(facts)
    for model_folder in served:
        out.print(f"{model_folder} (a model of Triton's)", soft_wrap=True)


def _check_unchanged(model: str, context: typer.Context, engine: bool, triton: Path | None) -> None:
    """Refuse options that have no effect on an ONNX file that already has the precision."""
    if not engine and triton is None:
        raise UsageError(
            f"{model} is an ONNX file already: say another --precision, --engine or --triton, or give a checkpoint"
        )
    unused = {"images", "calibration", "data", "budget"} | (set() if engine else {"output"})
    refuse_options(context, unused, f"cannot be used, because {model} has this precision already")


def _check_triton_runs(options: "BuildOptions") -> None:
    """Raise an error before building an engine that Triton could not run."""
    from fashion_infer.tensorrt.build import resolve

    if resolve(options).flavour == "rtx":
        raise UsageError("Triton runs TensorRT's own engines only: --triton goes with --flavour tensorrt")


def _write_repository(onnx_file: Path, folder: Path, plan: Path | None) -> list[Path]:
    from fashion_infer.export.triton import plans_beside, write_repository

    built = [] if plan is None else [plan]
    others = [engine for engine in plans_beside(onnx_file) if plan is None or engine.resolve() != plan.resolve()]
    return write_repository(onnx_file, folder, built + others)


def _build(onnx_file: Path, plan: Path | None, options: "BuildOptions", source: Path) -> "tuple[Path, EngineFile]":
    """Build an engine with a progress bar."""
    from fashion_infer.tensorrt.build import build_engine

    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("building", total=None)

        def report(phase: str, step: int, steps: int) -> bool:
            progress.update(task, description=phase, completed=step + 1, total=steps)
            return True

        return build_engine(onnx_file, plan, options, source=source, report=report)


def _int8_options(
    precision: str | None, calibration: Path | None, data: Path | None, budget: float | None, engine: bool
) -> "Int8Options | None":
    if precision != "int8" and (calibration or data):
        raise UsageError("--calibration and --data go with --precision int8")
    if budget is not None and data is None:
        raise UsageError("--budget is of the metrics on --data: give both")
    if precision != "int8" or calibration is None:
        return None
    from fashion_infer.data.deepfashion import read_category
    from fashion_infer.export.quantize import Int8Options

    labelled = None if data is None else read_category(data).split("val")
    budget = BUDGET if budget is None else budget
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


def _print_engine(engine: "EngineFile") -> None:
    out.print(
        f"{engine.precision}, TensorRT {engine.tensorrt} ({engine.flavour}), {len(engine.products)} products; "
        f"{engine.activation_bytes / 2**20:.0f} MiB of activations for each session"
    )


def _build_options(flavour: str | None, batch: str | None) -> "BuildOptions":
    """The options of an engine; missing packages are reported now, not after minutes of exporting."""
    from fashion_infer.tensorrt.build import BuildOptions, resolve

    options = BuildOptions(flavour, tuple(_batch_range(part) for part in (batch or BATCH).split(",")))
    resolve(options)
    return options


def _batch_range(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"{text!r} is no batch range: it is smallest:best:greatest, such as 1:8:64")
    smallest, best, greatest = map(int, parts)
    return smallest, best, greatest
