"""A BenchResult as tables for people."""

from rich.table import Table

from fashion_infer.bench.scenarios import BenchResult


def latency_table(result: BenchResult) -> Table:
    """One row for each way of measuring; a dash where the samples are too few for a percentile."""
    table = Table(
        "latency, one image", "p50 ms", "p90 ms", "p99 ms", "samples", title=_title(result), title_justify="left"
    )
    for name, row in result.latency.items():
        cells = ["-" if (value := row[p]) is None else f"{value:.2f}" for p in ("p50", "p90", "p99")]
        table.add_row(name.replace("_", " "), *cells, f"{row['samples']:.0f}")
    return table


def stage_table(result: BenchResult) -> Table:
    """Where the time of one image goes."""
    table = Table(*result.stages, title="stages end to end, mean ms", title_justify="left")
    table.add_row(*(f"{ms:.2f}" for ms in result.stages.values()))
    return table


def throughput_table(result: BenchResult) -> Table:
    """Images a second by batch size."""
    table = Table("throughput", "images/s")
    for batch, rate in result.throughput["engine_only"].items():
        table.add_row(f"engine only, batch {batch}", f"{rate:.1f}")
    table.add_row("end to end, stream", f"{result.throughput['end_to_end']:.1f}")
    return table


def _title(result: BenchResult) -> str:
    environment, model = result.environment, result.model
    return f"{model['arch']} at {model['image_size']} px on {environment['cores']} cores of {environment['cpu']}"
