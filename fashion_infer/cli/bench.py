"""The command `fashion-infer bench`: measure a model, print or write the result, compare it with an earlier one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fashion_infer.cli.shared import Backend, Device, Json, Model, Threads, out
from fashion_infer.errors import UsageError
from fashion_infer.files import check_folder, write_atomically

if TYPE_CHECKING:
    from fashion_infer.bench.result import BenchResult

RESULT, PAGE, LOGS = "result.json", "report.html", "loadgen"
STARTS = 3


def bench(
    model: Model,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos to measure with; rendered garments by default.")
    ] = None,
    as_json: Json = False,
    report: Annotated[Path | None, typer.Option(help="Folder for report.html, result.json and loadgen's logs.")] = None,
    compare: Annotated[Path | None, typer.Option(help="An earlier result (JSON) to compare with.")] = None,
    fail_if: Annotated[list[str] | None, typer.Option(help="With --compare: a change that gives exit code 1.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="20 seconds, one process start, no load generator.")] = False,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="MLPerf's own minimum durations: hours.")] = False,
    starts: Annotated[
        int | None, typer.Option(help="Process starts, 1 to 10: more make the intervals narrower; 3 by default.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Total seconds of measuring; about two minutes by default.")
    ] = None,
    device: Device = None,
    backend: Backend = None,
    sessions: Annotated[
        int | None, typer.Option(help="Batches that run at once; by default chosen for the machine.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Time a model end to end (encoded bytes in, Prediction out) and the network alone.

    This needs the extra bench (MLCommons' load generator, matplotlib, onnx). --quick without --report does not need it
    and leaves out the MLPerf scenarios and the ceiling. A percentile is shown only if there are enough samples: 44 for
    p90, 459 for p99, 4603 for p99.9. Intervals are 95 % intervals over process starts. A change within its interval
    does not fail.

    Examples:
        fashion-infer bench fashionnet.onnx --images photos/ --report report/

        fashion-infer bench fashionnet.onnx --compare old.json --fail-if 'e2e.p99>5%' --fail-if 'e2e.images_per_s<-5%'
    """
    from fashion_infer.bench.comparison import changes_between, check_gates, differences, parse_gate, read_result
    from fashion_infer.bench.report import change_table
    from fashion_infer.bench.run import bench_model

    old = None if compare is None else read_result(compare)
    gates = [parse_gate(text) for text in fail_if or []]
    if gates and old is None:
        raise UsageError("--fail-if compares with an earlier result: give it with --compare")
    if quick and starts is not None:
        raise UsageError("--quick has one process start: leave --starts or --quick out")
    if report is not None:
        _check_folder(report)
    result = bench_model(
        Path(model),
        images,
        logs=None if report is None else report / LOGS,
        starts=STARTS if starts is None else starts,
        seconds=seconds,
        quick=quick,
        mlperf=mlperf,
        device=device,
        backend=backend,
        sessions=sessions,
        threads=threads,
    )
    _show(result, report, as_json)
    changes = [] if old is None else changes_between(result.to_dict(), old)
    if old is not None and not as_json:
        out.print(change_table(changes))
        if others := differences(result.to_dict(), old):
            out.print(f"the two results also differ in: {', '.join(others)}")
    check_gates(gates, changes)


def _check_folder(report: Path) -> None:
    """Raise the errors of an unusable folder, or of a missing matplotlib, before the long measurement."""
    import fashion_infer.bench.page  # noqa: F401

    check_folder(report)
    if report.exists() and any(report.iterdir()):
        raise UsageError(f"the folder {report} is not empty: a report and its logs want one of their own")


def _show(result: "BenchResult", report: Path | None, as_json: bool) -> None:
    """Write the report's files, and print the result as JSON or as tables."""
    from fashion_infer.bench.report import notes, tables

    text = json.dumps(result.to_dict())
    if report is not None:
        from fashion_infer.bench.page import write_bench_page

        write_atomically(report / RESULT, lambda temporary: temporary.write_text(text))
        write_bench_page(result, report / PAGE)
    if as_json:
        typer.echo(text)
    else:
        out.print(*tables(result), *notes(result), sep="\n", soft_wrap=True)
