"""A BenchResult as one HTML page that needs no other file, with plots and the raw samples inside."""

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fashion_infer.bench.report import NAMES, notes, tables
from fashion_infer.bench.result import BenchResult
from fashion_infer.errors import missing_extra
from fashion_infer.files import write_atomically

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise missing_extra("matplotlib", "bench", error) from error

RAW_ID = "fashion-infer-bench"
_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
pre { font: 13px/1.3 ui-monospace, monospace; overflow-x: auto } svg { max-width: 100%; height: auto }"""


def write_page(result: BenchResult, path: Path) -> None:
    """Write the page; the result lies in it as JSON under the id `fashion-infer-bench`."""
    raw = json.dumps(result.to_dict()).replace("</", "<\\/")  # nothing in it may end the script
    title = f"fashion-infer bench: {result.model['arch']}"
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(line)}</p>" for line in notes(result)),
        f"<pre>{html.escape(_text(result))}</pre>",
        *(_svg(figure) for figure in (_latencies(result), _stages(result), _throughput_against_latency(result))),
        f"<h2>Identity</h2><pre>{html.escape(json.dumps(_identity(result), indent=2))}</pre>",
        f"<script type='application/json' id='{RAW_ID}'>{raw}</script></html>\n",
    ]
    write_atomically(
        path, lambda temporary: temporary.write_text("\n".join(parts), encoding="utf-8", errors="backslashreplace")
    )


def _identity(result: BenchResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in ("model", "provenance", "environment", "workload", "settings")}


def _text(result: BenchResult) -> str:
    console = Console(file=io.StringIO(), width=150, color_system=None, markup=False, emoji=False)
    console.print(*tables(result))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def _latencies(result: BenchResult) -> Figure:
    """The share of images answered within a time, a line for each process start."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    for color, (name, starts) in enumerate(result.raw.items()):
        for number, samples in enumerate(starts):
            label = NAMES[name] if number == 0 else None
            axes.plot(np.sort(samples), np.linspace(0, 100, len(samples)), color=f"C{color}", label=label, linewidth=1)
    axes.set(xlabel="milliseconds of one image", ylabel="% of images within", xscale="log", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _stages(result: BenchResult) -> Figure:
    figure = Figure(figsize=(9, 1.6), layout="constrained")
    axes, left = figure.subplots(), 0.0
    for name, estimate in result.stages.items():
        axes.barh(0, estimate.value, left=left, label=name)
        left += estimate.value
    axes.set(xlabel="milliseconds of one image end to end, by stage", yticks=[])
    axes.legend(ncols=len(result.stages), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def _throughput_against_latency(result: BenchResult) -> Figure:
    """The engine by batch size, and Server by load: more images a second cost each of them more time."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots()
    batches = {size: rate.value for size, rate in result.throughput["engine"].items()}
    times = [int(size) / rate * 1e3 for size, rate in batches.items()]
    axes.plot(list(batches.values()), times, "o-", label="engine only, time of a batch")
    for (size, rate), time in zip(batches.items(), times, strict=True):
        axes.annotate(size, (rate, time), textcoords="offset points", xytext=(6, -4))
    server = [run for run in result.scenarios if run["scenario"] == "Server"]
    for name in ("p50", "p99"):
        known = [run for run in server if run["milliseconds"][name] is not None]
        points = [(run["images_per_s"].value, run["milliseconds"][name].value) for run in known]
        if points:
            axes.plot(*zip(*points, strict=True), "s--", label=f"Server end to end, {name}")
    axes.set(xlabel="images a second", ylabel="milliseconds", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue().partition("<svg")[2].join(["<svg", ""])
