"""The command `fashion-infer bench`: measure, print, write, compare."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fashion_infer.bench.comparison import changes_between, check_gates, differences, parse_gate, read_result
from fashion_infer.bench.report import change_table, notes, tables
from fashion_infer.bench.run import bench_model
from fashion_infer.errors import UsageError
from fashion_infer.files import write_atomically

RESULT, PAGE, LOGS = "result.json", "report.html", "loadgen"


def run_bench(
    model: Path,
    images: Path | None,
    out: Console,
    *,
    as_json: bool,
    report: Path | None,
    compare: Path | None,
    fail_if: Sequence[str],
    **settings: Any,
) -> None:
    """See the command's own help; `settings` go to `bench_model`. All that can be refused is, before measuring.

    Raises:
        UsageError: an unreadable old result or gate, a gate without an old result, or a report folder in use.
        BenchError: a gate failed.
        FashionInferError: what `bench_model` raises.
    """
    old = None if compare is None else read_result(compare)
    gates = [parse_gate(text) for text in fail_if]
    if gates and old is None:
        raise UsageError("--fail-if compares with an earlier result: give it with --compare")
    if report is not None:
        from fashion_infer.bench.page import write_page

        if report.exists() and any(report.iterdir()):
            raise UsageError(f"the folder {report} is not empty: a report and its logs want one of their own")
    result = bench_model(model, images, logs=None if report is None else report / LOGS, **settings)
    new = result.to_dict()
    changes = [] if old is None else changes_between(new, old)
    if report is not None:
        write_atomically(report / RESULT, lambda temporary: temporary.write_text(json.dumps(new)))
        write_page(result, report / PAGE)
    if as_json:
        out.file.write(json.dumps(new) + "\n")
    else:
        out.print(*tables(result), *notes(result), sep="\n", soft_wrap=True)
    if old is not None and not as_json:
        out.print(change_table(changes))
        if found := differences(new, old):
            out.print(f"the two results also differ in: {', '.join(found)}")
    check_gates(gates, changes)
