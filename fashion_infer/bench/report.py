"""A BenchResult as tables for people."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from fashion_infer.bench.comparison import Change
from fashion_infer.bench.result import BenchResult
from fashion_infer.bench.statistics import PERCENTILES

COLUMNS = [f"p{percentile:g}" for percentile in PERCENTILES]
SHOWN = ("p50", "p90", "p99")  # percentiles in the table of scenarios
NAMES = {"e2e": "end to end", "engine": "engine only"}


def tables(result: BenchResult) -> list[Table]:
    """The tables of a result, the most important first."""
    result_tables = [latency_table(result), stage_table(result), throughput_table(result)]
    return [*result_tables, scenario_table(result)] if result.scenarios else result_tables


def notes(result: BenchResult) -> list[str]:
    """The conditions of the measurement, one sentence each, from what was measured to what was not."""
    model, environment, workload = result.model, result.environment, result.workload
    lines = [
        f"{model['arch']} at {model['image_size']} px, sha256 {model['sha256'][:12]}",
        f"{_layouts(model['layout'])} on {environment['cores']} cores of {environment['cpu']}; load average before "
        f"{environment['load_average']}",
        f"{workload['images']} images ({workload['source']}), {workload['mean_megapixels']:.2f} megapixels and "
        f"{workload['mean_bytes'] / 1e3:.0f} kB on average; {result.settings['warm_up']} runs of warm-up",
        f"parity {_parity_words(model['parity'])}, accuracy {_judged(model['accuracy'])}"
        + ("" if model["trained"] else "; the weights are random, the model was never trained"),
    ]
    start_up = {name: value for name, value in result.start_up.items() if value is not None}
    lines.append(", ".join(f"{_START_UP[name]} {value}" for name, value in start_up.items()))
    if result.reached:
        shares = ", ".join(f"{share.value:.0%} at batch {size}" for size, share in result.reached.items())
        limits = ", ".join(f"{kind} {rate.value / 1e9:.0f}" for kind, rate in result.ceiling.items())
        lines.append(f"of the ceiling measured here ({limits} billion operations a second) the engine reached {shares}")
    else:
        lines.append("the share of the machine's ceiling was not measured")
    if result.settings["starts"] == 1:
        lines.append("one process start: no intervals")
    return lines + _invalid(result)


def latency_table(result: BenchResult) -> Table:
    """One row for each system; a dash if there are too few samples for a percentile."""
    table = _table("latency of one image, ms", "", *COLUMNS, "samples")
    for name, row in result.latency.items():
        table.add_row(NAMES[name], *("-" if row[p] is None else str(row[p]) for p in COLUMNS), str(row["samples"]))
    return table


def stage_table(result: BenchResult) -> Table:
    """Where the time of one image goes."""
    table = _table("stages end to end, mean ms", *result.stages)
    table.add_row(*map(str, result.stages.values()))
    return table


def throughput_table(result: BenchResult) -> Table:
    """Images per second by batch size, and the time of a batch."""
    table = _table("throughput", "", "images/s", "ms a batch")
    for size, rate in result.throughput["engine"].items():
        table.add_row(f"engine only, batch {size}", str(rate), f"{int(size) / rate.value * 1e3:.3g}")
    table.add_row("end to end, stream", str(result.throughput["e2e"]), "")
    return table


def scenario_table(result: BenchResult) -> Table:
    """The load generator's runs and how many of them it called valid; `notes` gives the reasons for the others."""
    table = _table("MLPerf scenarios, ms a query", "", "", "images/s", *SHOWN, "queries", "VALID")
    for run in result.scenarios:
        latencies = run["milliseconds"]
        times = [
            "" if p not in latencies else "-" if latencies[p] is None else f"{latencies[p].value:.3g}" for p in SHOWN
        ]
        valid = f"{run['validity'].count('VALID')} of {len(run['validity'])}"
        table.add_row(
            _title(run), NAMES[run["system"]], str(run["images_per_s"]), *times, str(sum(run["queries"])), valid
        )
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """Old and new values side by side, and whether each change is more than noise."""
    words = {True: "yes", False: "within noise", None: "unknown, one start"}
    table = _table("against the old result", "", "old", "new", "change", "clear")
    for change in changes:
        table.add_row(change.measure, str(change.old), str(change.new), f"{change.percent:+.1f} %", words[change.clear])
    return table


_START_UP = {
    "first_prediction_s": "seconds from a cold process to its first prediction",
    "first_memory_mib": "MiB of memory until then",
    "peak_memory_mib": "at the peak",
}


def _title(run: dict[str, Any]) -> str:
    return str(run["scenario"]) if run["load"] is None else f"{run['scenario']} at {run['load']:.0%}"


def _layouts(layouts: Sequence[dict[str, int]]) -> str:
    """The different choices of sessions and threads; on a busy machine they may vary between process starts."""
    words = (", ".join(f"{name} {number}" for name, number in layout.items()) for layout in layouts)
    return "; or ".join(dict.fromkeys(words))


def _invalid(result: BenchResult) -> list[str]:
    """Each complaint of the load generator once, with the runs that it concerns."""
    runs: dict[str, dict[str, None]] = {}
    for run in result.scenarios:
        for verdict in run["validity"]:
            if verdict != "VALID":
                runs.setdefault(verdict, {})[f"{_title(run)} {NAMES[run['system']]}"] = None
    return [f"{verdict} ({', '.join(names)})" for verdict, names in runs.items()]


def _parity_words(facts: Any) -> str:
    """The parity stored in the file as one phrase; a list is shown by its length."""
    if not isinstance(facts, dict):
        return str(facts)
    words = {name: len(value) if isinstance(value, list) else value for name, value in facts.items()}
    return ", ".join(f"{name} {value}" for name, value in words.items() if not isinstance(value, dict))


def _judged(accuracy: Any) -> str:
    """Each metric, for the fp32 model and for this file."""
    if not isinstance(accuracy, dict):
        return str(accuracy)
    return ", ".join(f"{metric} {before:.4g} to {after:.4g}" for metric, (before, after) in accuracy.items())


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")
