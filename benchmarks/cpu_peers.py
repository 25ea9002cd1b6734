"""Compare fashion-infer with its peers on this CPU: the same photos and weights, in one run that alternates among them.

    python benchmarks/cpu_peers.py PHOTOS [--light LIGHT.safetensors] [--fashionnet FASHIONNET.safetensors]

See benchmarks/README.md. Each peer runs in its own process and environment (peers/). This script asks them in turn,
round after round, and writes JSON, a table and a plot into results/.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from peer_models import BACKBONES, SIZE, Artefacts, make_artefacts
from peer_results import write_results
from peers.environments import make_environment
from peers.process import PeerProcess
from photos import make_photos
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from fashion_infer.bench.environment import environment, provenance
from fashion_infer.images import read_image
from fashion_infer.machine import usable_cores
from fashion_infer.preprocess import crop

HERE = Path(__file__).resolve().parent
BUILD, RESULTS = HERE.parent / "build" / "peers", HERE / "results"
WORKLOADS = ("12MP", "2MP", "0.3MP", "decoded")
STREAMED = "2MP"  # the photos for offline throughput, each used four times
COLD_STARTS, OFFLINE_ROUNDS = 3, 5
OURS = ("fashion-infer fp32", "fashion-infer int8")  # peers with additional measurements, see _more
console = Console(stderr=True)


@dataclass(frozen=True)
class Kind:
    """A peer: the environment and script of its process, and the options for its `load`."""

    environment: str
    script: str
    options: dict[str, Any]


@dataclass
class Measured:
    """The measurements of one peer; `failed` holds the reason if it could not be measured."""

    notes: dict[str, Any] = field(default_factory=dict)
    first_prediction_s: list[float] = field(default_factory=list)
    first_memory_mib: float | None = None
    peak_memory_mib: float | None = None
    parity: float | None = None  # largest difference of a category's probability from the first peer's
    latency_ms: dict[str, list[list[float]]] = field(default_factory=dict)  # by workload, the samples of each round
    offline: list[float] = field(default_factory=list)  # images per second of each round
    more: dict[str, Any] = field(default_factory=dict)
    failed: str | None = None


def kinds_of(files: Artefacts) -> dict[str, Kind]:
    """Return the peers for a network; the others are compared with the first."""
    torch, ours = {"checkpoint": str(files.checkpoint)}, {"model": str(files.int8)}
    floats = {"model": str(files.float_input), "mean": files.mean, "std": files.std, "size": SIZE}
    kinds = {
        "PIL + torch eager": Kind("torch", "torch_pil.py", torch | {"compile": False}),
        "PIL + torch.compile": Kind("torch", "torch_pil.py", torch | {"compile": True}),
        "cv2 + ONNX Runtime": Kind("rtmlib", "rtmlib_style.py", floats),
        "OpenVINO quick start": Kind("openvino", "openvino_quick.py", {"model": str(files.inlined), "size": SIZE}),
        "Ultralytics classifier": Kind("ultralytics", "ultralytics_cls.py", {"folder": str(BUILD), "size": SIZE}),
        "fashion-infer fp32": Kind("ours", "ours.py", {"model": str(files.onnx)}),
        "fashion-infer int8": Kind("ours", "ours.py", ours),
        "fashion-infer int8, OpenVINO": Kind("ours", "ours.py", ours | {"backend": "openvino"}),
    }
    if files.name != "light":
        del kinds["Ultralytics classifier"]  # it has no network as large as VGG-16
    return kinds


def measure(kinds: dict[str, Kind], sources: dict[str, list[str]], rounds: int, seconds: float) -> dict[str, Measured]:
    """Start all peers, then measure them in turn.

    Args:
        kinds: The peers by name.
        sources: Paths of images by workload.
        rounds: Number of latency rounds, 2 to 10.
        seconds: Length of one peer's turn.

    Returns:
        The measurements by the peer's name.
    """
    measured = {name: Measured() for name in kinds}
    processes: dict[str, PeerProcess] = {}
    try:
        for _ in range(1 + COLD_STARTS):
            _start_all(kinds, measured, processes, sources["2MP"][0])
        for name in processes:
            del measured[name].first_prediction_s[0]  # the first start also created environments, exports and caches
        _compare(processes, measured, sources["decoded"][0])
        turns = [(workload, name) for _ in range(rounds) for workload in WORKLOADS for name in kinds]
        with Progress(console=console, transient=True) as progress:
            for workload, name in progress.track(turns, description="latency"):
                request = {"sources": sources[workload], "seconds": seconds}
                if (latencies_ms := _ask(name, processes, measured, "latency", **request)) is not None:
                    measured[name].latency_ms.setdefault(workload, []).append(latencies_ms)
            offline = [(number, name) for number in range(1 + OFFLINE_ROUNDS) for name in kinds]
            for number, name in progress.track(offline, description="offline"):
                rate = _ask(name, processes, measured, "throughput", sources=4 * sources[STREAMED])
                if number and rate is not None:  # the first round is warm-up
                    measured[name].offline.append(rate)
        for name in kinds:
            measured[name].peak_memory_mib = _ask(name, processes, measured, "memory")
            for do, options in _more(sources, seconds).items() if name in OURS else ():
                measured[name].more[do] = _ask(name, processes, measured, do, options=options)
    finally:
        for process in processes.values():
            process.close()
    return measured


def _start_all(
    kinds: dict[str, Kind], measured: dict[str, Measured], processes: dict[str, PeerProcess], first: str
) -> None:
    """Restart every peer, one after the other; a peer that cannot start is recorded as failed and left out."""
    for name, kind in kinds.items():
        if measured[name].failed is not None:
            continue
        if name in processes:
            processes.pop(name).close()
        console.print(f"starting {name}")
        try:
            python = make_environment(kind.environment, BUILD)
            log = BUILD / f"{kind.environment}.log"
            processes[name] = PeerProcess(kind.script, kind.options | {"first": first}, python, log)
        except (RuntimeError, OSError) as error:
            measured[name].failed = str(error)
            console.print("[red]left out:[/red]", escape(f"{name}: {error}"))
            continue
        measured[name].notes = processes[name].notes
        measured[name].first_prediction_s.append(processes[name].first_prediction_s)
        measured[name].first_memory_mib = processes[name].first_memory_mib


def _ask(name: str, processes: dict[str, PeerProcess], measured: dict[str, Measured], do: str, **request: Any) -> Any:
    """Return the peer's answer, or None if it fails or has failed; a failure is recorded and the peer then left out."""
    if name not in processes:
        return None
    try:
        return processes[name].ask(do, **request)
    except (RuntimeError, OSError) as error:
        measured[name].failed = f"{do}: {error}"
        console.print("[red]left out:[/red]", escape(f"{name}: {error}"))
        processes.pop(name).close()
        return None


def _compare(processes: dict[str, PeerProcess], measured: dict[str, Measured], source: str) -> None:
    """Compare the peers' probabilities; Ultralytics' network has other categories and cannot be compared."""
    answers = {name: _ask(name, processes, measured, "probabilities", source=source) for name in list(processes)}
    expected = next(iter(answers.values()))
    for name, probabilities in answers.items():
        if expected is not None and probabilities is not None and len(probabilities) == len(expected):
            measured[name].parity = float(np.abs(np.subtract(probabilities, expected)).max())


def _more(sources: dict[str, list[str]], seconds: float) -> dict[str, dict[str, Any]]:
    """Return the additional measurements of our own peers, with their options."""
    cores, decoded = usable_cores(), sources["decoded"][0]
    return {
        "overhead": {"source": decoded, "seconds": 20 * seconds},
        "floor": {"sources": {name: sources[name] for name in WORKLOADS[:3]}, "seconds": 20 * seconds},
        "sparse": {"source": decoded, "pauses": [0.0, 0.03], "count": 50},
        "layouts": {"sources": 4 * sources[STREAMED], "cores": cores, "rounds": 5},
        "ceiling": {"source": decoded, "cores": cores, "rounds": 5},
    }


def make_sources(photos: Path) -> dict[str, list[str]]:
    """Make the images of each workload, JPEGs and pictures of the network's size as .npy, and return their paths."""
    sources = {name: [str(path) for path in paths] for name, paths in make_photos(photos, BUILD / "photos").items()}
    sources["decoded"] = []
    for path in sources["2MP"]:
        target = Path(path).with_suffix(".npy")
        np.save(target, crop(read_image(path, side=SIZE), None, SIZE).pixels)
        sources["decoded"].append(str(target))
    return sources


def main(
    photos: Annotated[Path, typer.Argument(help="A folder of garment photos, at least eight JPEGs.")],
    light: Annotated[
        Path | None, typer.Option(help="Checkpoint of a light network; random weights by default.")
    ] = None,
    fashionnet: Annotated[
        Path | None, typer.Option(help="Checkpoint of a VGG-16 network; random weights by default.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="light or fashionnet; both by default.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Peers by name; the first is the one to compare with.")] = None,
    rounds: Annotated[int, typer.Option(help="Number of latency rounds, 2 to 10.")] = 10,
    seconds: Annotated[float, typer.Option(help="Length of a peer's turn, which has at least three images.")] = 0.5,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = RESULTS,
) -> None:
    """Measure every peer on both networks and write cpu_peers.json, .md and .svg."""
    BUILD.mkdir(parents=True, exist_ok=True)
    machine = environment()
    sources, results = make_sources(photos), {}
    for name in model or BACKBONES:
        int8 = only is None or any("int8" in peer for peer in only)
        checkpoint = {"light": light, "fashionnet": fashionnet}[name]
        kinds = kinds_of(make_artefacts(name, checkpoint, photos, BUILD / "models", int8=int8))
        results[name] = measure(
            {peer: kinds[peer] for peer in only or kinds if peer in kinds}, sources, rounds, seconds
        )
    facts = {
        "provenance": provenance() | {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        "environment": machine,
        "photos": {name: float(np.mean([Path(p).stat().st_size for p in sources[name]])) for name in WORKLOADS[:3]},
        "settings": {"rounds": rounds, "seconds": seconds, "offline_rounds": OFFLINE_ROUNDS, "cores": usable_cores()},
    }
    write_results(results, facts, output)


if __name__ == "__main__":
    typer.run(main)
