"""A BenchResult as one HTML page that needs no other file, with plots and the raw samples inside."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from fashion_infer.bench.limits import limits
from fashion_infer.bench.report import NAMES, latency_table, notes, scenario_table, throughput_table
from fashion_infer.bench.result import BenchResult
from fashion_infer.bench.statistics import PERCENTILES
from fashion_infer.errors import missing_extra
from fashion_infer.web_page import COLOURS, details, escaped, facts, paragraph, section, table, write_page

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise missing_extra("matplotlib", "bench", error) from error

RAW_ID = "fashion-infer-bench"
SERIES = (COLOURS["accent"], COLOURS["second"], COLOURS["third"])
_PLOT: Any = {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
_WIDTH = 6.0  # inches


def write_bench_page(result: BenchResult, path: Path) -> None:
    """Write the page, which contains the result as JSON in the element `fashion-infer-bench`."""
    raw = json.dumps(result.to_dict()).replace("</", "<\\/")  # so that no text in it ends the script element
    with rc_context(_PLOT):
        sections = [
            paragraph(notes(result)[0]),
            paragraph(limits(result), lead=True),
            section("Latency", _table(latency_table(result)), _svg(_latency_plot(result))),
            section("Where the time goes", _stages(result), _svg(_stage_plot(result))),
            section("Throughput", _table(throughput_table(result)), _svg(_throughput_plot(result))),
            *_scenarios(result),
            section("Details", _notes(result), _identity(result)),
            f"<script type='application/json' id='{RAW_ID}'>{raw}</script>",
        ]
    write_page(path, f"fashion-infer bench: {result.model['arch']}", sections)


def _stages(result: BenchResult) -> str:
    return table(["mean ms, end to end", *result.stages], [["one image", *map(str, result.stages.values())]])


def _table(rich_table: Table) -> str:
    """Convert a table of the terminal to HTML."""
    columns = [str(column.header) for column in rich_table.columns]
    rows = zip(*(map(str, column.cells) for column in rich_table.columns), strict=True)
    caption = str(rich_table.title or "")
    return table(columns, [list(row) for row in rows], caption)


def _notes(result: BenchResult) -> str:
    lines = "".join(f"<li>{escaped(line)}" for line in notes(result))
    return details("What the numbers stand on", f"<ul>{lines}</ul>")


def _identity(result: BenchResult) -> str:
    """Model, code, machine, images and settings as lists that are folded away."""
    return "\n".join(
        details(title, facts({name: _text(value) for name, value in getattr(result, title.lower()).items()}))
        for title in ("Model", "Provenance", "Environment", "Workload", "Settings")
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _scenarios(result: BenchResult) -> list[str]:
    if not result.scenarios:
        return []
    plots = [_svg(_server_plot(result))] if any(run["scenario"] == "Server" for run in result.scenarios) else []
    return [section("MLPerf's scenarios", _table(scenario_table(result)), *plots)]


def _axes(height: float, **labels: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.set(**labels)
    axes.grid(alpha=0.3)
    return figure, axes


def _legend_above(axes: Axes) -> None:
    columns = min(5, len(axes.get_legend_handles_labels()[0]))
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize=8)


def _plain_numbers(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers such as 20 instead of powers of ten."""
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")


def _latency_plot(result: BenchResult) -> Figure:
    """Plot milliseconds by percentile, with equal room for each nine and a thin line for each process start."""
    figure, axes = _axes(3.2, xlabel="percentile of the images", ylabel="milliseconds of one image")
    for colour, (name, starts) in zip(SERIES, result.raw.items(), strict=False):
        for number, samples in enumerate(starts):
            shares = (np.arange(len(samples)) + 0.5) / len(samples)
            label = NAMES[name] if number == 0 else None
            axes.plot(_nines(100 * shares), np.sort(samples), color=colour, linewidth=0.8, alpha=0.6, label=label)
        measured = [(p, result.latency[name][f"p{p:g}"]) for p in PERCENTILES]
        marks = [(_nines(p), estimate.value) for p, estimate in measured if estimate is not None]
        for place, milliseconds in marks:
            axes.plot(place, milliseconds, "o", color=colour)
            words: dict[str, Any] = {"textcoords": "offset points", "xytext": (-4, 5), "ha": "right", "color": colour}
            axes.annotate(f"{milliseconds:.3g}", (place, milliseconds), **words)
    axes.set_xticks([_nines(p) for p in PERCENTILES], [f"p{p:g}" for p in PERCENTILES])
    axes.set(yscale="log", xlim=(0, None))
    _plain_numbers(axes)
    _legend_above(axes)
    return figure


def _nines(percentile: Any) -> Any:
    """The number of nines of a percentile: 0 for 0, 1 for 90, 2 for 99, 3 for 99.9."""
    return -np.log10(1 - np.asarray(percentile) / 100)


def _stage_plot(result: BenchResult) -> Figure:
    figure, axes = _axes(1.3, xlabel="milliseconds of one image end to end")
    start = 0.0
    colours = (*SERIES, COLOURS["fair"], COLOURS["muted"])
    for colour, (name, estimate) in zip(colours, result.stages.items(), strict=True):
        axes.barh(0, estimate.value, left=start, label=name, color=colour)
        start += estimate.value
    axes.set(yticks=[])
    _legend_above(axes)
    return figure


def _throughput_plot(result: BenchResult) -> Figure:
    """Plot images per second by batch size with the ceiling, and under them the milliseconds per batch."""
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    rates, times = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    batches = {int(size): rate.value for size, rate in result.throughput["engine"].items()}
    places = range(len(batches))
    rates.plot(places, list(batches.values()), "o-", color=SERIES[0], label="network alone")
    stream = result.throughput["e2e"].value
    rates.axhline(stream, color=SERIES[1], linestyle=":", label="a stream of images, end to end")
    if result.reached:
        size, share = next(iter(result.reached.items()))
        ceiling = batches[int(size)] / share.value
        rates.axhline(ceiling, color=COLOURS["muted"], linestyle="--", label="ceiling: a large matrix product")
    rates.set(ylabel="images a second", ylim=(0, None))
    _legend_above(rates)
    times.plot(places, [size / rate * 1e3 for size, rate in batches.items()], "s-", color=SERIES[2])
    times.set(ylabel="ms a batch", ylim=(0, None), xlabel="images in a batch")
    times.set_xticks(places, [str(size) for size in batches])
    for axes in (rates, times):
        axes.grid(alpha=0.3)
    return figure


def _server_plot(result: BenchResult) -> Figure:
    """Plot latency by load in the scenario Server: with more images per second each takes longer."""
    figure, axes = _axes(2.8, xlabel="images a second that arrive", ylabel="milliseconds of one image", yscale="log")
    runs = [run for run in result.scenarios if run["scenario"] == "Server"]
    for colour, name in zip(SERIES, ("p50", "p90", "p99"), strict=True):
        measured = [run for run in runs if run["milliseconds"].get(name) is not None]
        points = [(run["images_per_s"].value, run["milliseconds"][name].value) for run in measured]
        if points:
            axes.plot(*zip(*points, strict=True), "s--", color=colour, label=f"Server end to end, {name}")
    _plain_numbers(axes)
    if axes.get_legend_handles_labels()[0]:
        _legend_above(axes)
    return figure


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return drawn.getvalue().partition("<svg")[2].join(["<svg", ""])
