"""Summarise the measurements of cpu_peers.py: ratios with intervals, goals, a table, a plot and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from matplotlib.figure import Figure

from fashion_infer.bench.statistics import Estimate, over_starts
from fashion_infer.files import write_atomically

Results = Mapping[str, Mapping[str, Any]]  # network -> peer -> cpu_peers.Measured
TORCH = "PIL + torch eager"
FP32, INT8, OPENVINO = "fashion-infer fp32", "fashion-infer int8", "fashion-infer int8, OpenVINO"
TITLES = {"light": "light FashionNet (EfficientNet-Lite0)", "fashionnet": "FashionNet (VGG-16)"}
FLOOR = 1.12  # goal: largest ratio of a prediction's time to that of the JPEG decoder and the network alone
LAYOUT = 0.95  # goal: smallest share of the speed of the best layout set by hand


def write_results(results: Results, facts: Mapping[str, Any], folder: Path) -> None:
    """Write cpu_peers.json, cpu_peers.md and cpu_peers.svg."""
    summary = {network: {peer: summarise(peers, peer) for peer in peers} for network, peers in results.items()}
    goals = check_goals(results)
    raw = {network: {peer: asdict(measured) for peer, measured in peers.items()} for network, peers in results.items()}
    everything = {**facts, "goals": goals, "summary": summary, "raw": raw}
    text = json.dumps(everything, default=asdict) + "\n"  # the values that json cannot write are Estimates, dataclasses
    write_atomically(folder / "cpu_peers.json", lambda path: path.write_text(text))
    write_atomically(folder / "cpu_peers.md", lambda path: path.write_text(table(summary, goals, facts)))
    figure = plot(summary)
    write_atomically(folder / "cpu_peers.svg", lambda path: figure.savefig(path, format="svg", metadata={"Date": None}))


def summarise(peers: Mapping[str, Any], peer: str) -> dict[str, Any]:
    """Compute the medians and ratios of one peer; intervals come from each round's ratio to the first peer."""
    measured, first = peers[peer], next(iter(peers.values()))
    if measured.failed is not None:
        return {"failed": measured.failed}
    medians = {workload: [median(times) for times in rounds] for workload, rounds in measured.latency_ms.items()}
    compared = first.latency_ms if first.failed is None else {}
    base = {workload: [median(times) for times in rounds] for workload, rounds in compared.items()}
    return {
        "latency_ms": {workload: over_starts(values) for workload, values in medians.items()},
        "times_as_fast": {workload: _ratio(base.get(workload), values) for workload, values in medians.items()},
        "offline_images_per_s": over_starts(measured.offline),
        "offline_times_as_fast": _ratio(measured.offline, first.offline)
        if first.offline and first.failed is None
        else None,
        "first_prediction_s": over_starts(measured.first_prediction_s),
        "first_memory_mib": measured.first_memory_mib,
        "peak_memory_mib": measured.peak_memory_mib,
        "parity": measured.parity,
        "notes": measured.notes,
    }


def check_goals(results: Results) -> list[dict[str, Any]]:
    """Return every goal whose peer was measured, with the value reached and whether it meets the goal."""
    goals = []
    for network, peers in results.items():
        for peer, measured in peers.items():
            if measured.more and measured.failed is None:
                goals += _own_goals(network, peer, measured)
    return goals


def _own_goals(network: str, peer: str, measured: Any) -> list[dict[str, Any]]:
    name, goals = f"{TITLES[network]}, {peer}", []
    pairs = zip(measured.more["overhead"]["predict"], measured.more["overhead"]["session.run"], strict=True)
    extra = median(predict - bare for predict, bare in pairs)  # each pair was measured one right after the other
    if network == "light":
        goals.append(_goal(f"{name}: ms of predict over a bare session.run", extra, 0.3, extra <= 0.3))
        if measured.first_prediction_s:
            cold = median(measured.first_prediction_s)
            goals.append(_goal(f"{name}: seconds from a cold process to its first prediction", cold, 0.5, cold <= 0.5))
    else:
        share = extra / median(measured.more["overhead"]["session.run"])
        goals.append(_goal(f"{name}: share of predict over a bare session.run", share, 0.03, share <= 0.03))
    for workload, times in measured.more["floor"].items():
        turns = zip(times["predict"], times["decoder"], times["session.run"], strict=True)
        share = median(predict / (decoder + bare) for predict, decoder, bare in turns)
        text = f"{name}, {workload} JPEG: predict against the JPEG decoder alone and the bare network"
        goals.append(_goal(text, share, FLOOR, share <= FLOOR))
    for kind, rates in measured.more["layouts"].items():
        rate = {layout: median(values) for layout, values in rates.items()}
        best = rate["automatic"] / max(value for layout, value in rate.items() if layout != "automatic")
        text = f"{name}, {kind}: automatic sessions x threads against the best by hand"
        goals.append(_goal(text, best, LAYOUT, best >= LAYOUT))
    if network == "fashionnet" and peer == INT8:
        share = fmean(measured.more["ceiling"]["shares"])
        goals.append(_goal(f"{name}: share of the measured ceiling at batch 8", share, 0.85, share >= 0.85))
    return goals


def _goal(text: str, reached: float, target: float, met: bool) -> dict[str, Any]:
    return {"goal": text, "reached": reached, "wanted": target, "met": met}


def _ratio(above: list[float] | None, below: list[float]) -> Estimate | None:
    """Divide the values of the same rounds; return the mean with its interval, None without values to divide."""
    return over_starts([a / b for a, b in zip(above, below, strict=True)]) if above else None


def table(summary: Mapping[str, Any], goals: list[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return Markdown with a table for each network, then the goals."""
    machine = facts["environment"]
    lines = [
        f"Measured on {machine['cores']} cores of {machine['cpu']} at {facts['provenance']['time']}, commit "
        f"{facts['provenance']['commit']}. Milliseconds of one image (median of {facts['settings']['rounds']} rounds "
        "that alternate between the peers) and, in brackets, times as fast as the first row; intervals are of 95 %.",
        "",
    ]
    for network, peers in summary.items():
        lines += [f"**{TITLES[network]}**", "", _HEADER, "|---" * _HEADER.count(" | ") + "|---|"]
        lines += [_row(peer, row) for peer, row in peers.items()] + [""]
    lines += ["| goal | reached | wanted | met |", "|---|---|---|---|"]
    lines += [
        f"| {g['goal']} | {g['reached']:.3g} | {g['wanted']:g} | {'yes' if g['met'] else '**no**'} |" for g in goals
    ]
    return "\n".join(lines) + "\n"


_WORKLOADS = ("12MP", "2MP", "0.3MP", "decoded")
_HEADER = (
    "| peer | 12 MP JPEG | 2 MP | 0.3 MP | decoded | offline, 2 MP images/s | cold start s | memory MiB | parity |"
)


def _row(peer: str, row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"| {peer} | failed: {row['failed'].splitlines()[-1]} |" + " |" * 7
    cells = [_beside(row["latency_ms"][w], row["times_as_fast"][w]) for w in _WORKLOADS]
    offline = _beside(row["offline_images_per_s"], row["offline_times_as_fast"])
    parity = "another network" if row["parity"] is None else f"{row['parity']:.1g}"
    memory = f"{row['peak_memory_mib']:.0f}"
    return "| " + " | ".join([peer, *cells, offline, str(row["first_prediction_s"]), memory, parity]) + " |"


def _beside(value: Estimate, ratio: Estimate | None) -> str:
    return str(value) if ratio is None else f"{value} ({ratio} x)"


def plot(summary: Mapping[str, Any]) -> Figure:
    """Plot the speed relative to the first peer: a panel for each network, a group of bars for each workload."""
    figure = Figure(figsize=(10, 4 * len(summary)), layout="constrained")
    panels = figure.subplots(len(summary), squeeze=False)[:, 0]
    for axes, (network, peers) in zip(panels, summary.items(), strict=True):
        shown = {peer: row for peer, row in peers.items() if None not in row.get("times_as_fast", {0: None}).values()}
        first = next(iter(peers))
        width = 0.8 / max(len(shown), 1)
        for number, (peer, row) in enumerate(shown.items()):
            ratios = [row["times_as_fast"][workload] for workload in _WORKLOADS]
            places = [group + (number - (len(shown) - 1) / 2) * width for group in range(len(_WORKLOADS))]
            errors = [ratio.plus_minus or 0 for ratio in ratios]
            axes.bar(places, [ratio.value for ratio in ratios], width, yerr=errors, label=peer)
        axes.set(title=TITLES[network], ylabel=f"times as fast as {first}", xticks=range(len(_WORKLOADS)))
        axes.set_xticklabels([w.replace("MP", " MP JPEG") for w in _WORKLOADS])
        axes.legend(fontsize="small", ncols=2)
    return figure
