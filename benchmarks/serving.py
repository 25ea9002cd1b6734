"""Compare `fashion-infer serve` with LitServe and plain FastAPI, with servers and load generator on this machine.

    python benchmarks/serving.py PHOTOS [--quick] [--soak 100000] [-o benchmarks/results/serving.json]

PHOTOS is a folder of JPEGs of garments, which are enlarged to about a megapixel. A closed loop measures each server's
throughput at saturation; then requests arrive as a Poisson process at 50, 80, 120 and 200 % of that rate. The load
generator is a separate process on the same cores, and its CPU time is printed. `--soak N` sends N requests at twice the
capacity to fashion-infer only, and compares the memory at the end with that after the first tenth.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any

import cv2
import numpy as np
import psutil
from peers.environments import make_environment
from photos import COUNT, QUALITY, enlarge

from fashion_infer import Predictor
from fashion_infer.bench.environment import environment, provenance
from fashion_infer.models import find_model

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent / "servers"
SIZE = (864, 1152)  # width and height: a megapixel
LOADS = (0.5, 0.8, 1.2, 2.0)  # shares of the throughput at saturation
CONNECTIONS = (4, 6, 8, 12)  # connections of the closed loop; the best result is the throughput at saturation
PAIRS = 4  # measurements of the server's and of the bare Predictor's throughput, in turn
PATIENT = (200, 10)  # a longer --max-wait-ms than the default, which lets larger batches form, and its connections


@dataclass(frozen=True)
class Server:
    """How to start a server, the path to send photos to, and the field of the form if it expects one."""

    name: str
    command: list[str]
    path: str
    form: str | None


def servers(model: str, lit_python: Path) -> list[Server]:
    """Return the three servers; the port has to be added to each command."""
    main = "from fashion_infer.cli import main; main()"
    return [
        Server("fashion-infer serve", [sys.executable, "-c", main, "serve", model, "--port"], "/v1/predict", None),
        Server("LitServe, the same Predictor", [str(lit_python), str(HERE / "lit.py"), model], "/predict", "request"),
        Server(
            "FastAPI + ONNX Runtime",
            [sys.executable, str(HERE / "plain.py"), str(find_model(model))],
            "/predict",
            "file",
        ),
    ]


@dataclass
class Running:
    """A server that has answered its first photo."""

    url: str
    process: psutil.Process
    seconds_to_ready: float

    def memory(self) -> float:
        """Return the memory of the process and its children, MiB."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes) / 2**20


@contextmanager
def running(server: Server, photo: Path) -> Iterator[Running]:
    """Start a server, wait for its first answer, and stop it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = perf_counter()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*server.command, str(port)], env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}{server.path}"
            options = {
                "url": url,
                "photos": [str(photo)],
                "form": server.form,
                "mode": "open",
                "rate": 100.0,
                "seed": 0,
            }
            while load({**options, "count": 1})["samples"][0][1] != 200:
                if process.poll() is not None or perf_counter() - start > 120:
                    raise SystemExit(f"{server.name} does not start")
                sleep(0.05)
            yield Running(url, psutil.Process(process.pid), perf_counter() - start)
        finally:
            alive = process.poll() is None
            children = psutil.Process(process.pid).children(recursive=True) if alive else []
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def load(options: dict[str, Any]) -> dict[str, Any]:
    """Run the load generator and return its result."""
    process = subprocess.run(
        [sys.executable, str(HERE / "load.py"), json.dumps(options)], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Summarise a load: rates per second, and percentiles of accepted and of refused requests."""
    accepted = [ms for ms, status in result["samples"] if status == 200]
    refused = [ms for ms, status in result["samples"] if status == 503]
    facts: dict[str, Any] = {
        "requests": len(result["samples"]),
        "accepted": len(accepted),
        "refused": len(refused),
        "failed": len(result["samples"]) - len(accepted) - len(refused),
        "accepted_per_s": len(accepted) / result["seconds"],
        "generator_cpu_share": result["cpu_s"] / result["seconds"] / (os.cpu_count() or 1),
    }
    if accepted:
        facts |= {"p50_ms": float(np.median(accepted)), "p99_ms": float(np.percentile(accepted, 99))}
    if refused:
        facts["refused_p95_ms"] = float(np.percentile(refused, 95))
    return facts


def measure(server: Server, photos: list[Path], seconds: float) -> dict[str, Any]:
    """Measure one server."""
    with running(server, photos[0]) as up:
        common = {"url": up.url, "photos": [str(photo) for photo in photos], "form": server.form, "seed": 1}
        load({**common, "mode": "closed", "connections": 4, "seconds": min(5.0, seconds)})  # warm
        closed = {
            connections: summary(load({**common, "mode": "closed", "connections": connections, "seconds": seconds}))
            for connections in CONNECTIONS
        }
        connections, best = max(closed.items(), key=lambda item: item[1]["accepted_per_s"])
        result: dict[str, Any] = {
            "seconds_to_ready": up.seconds_to_ready,
            "saturation": {**best, "connections": connections},
            "closed": closed,
            "open": {},
        }
        for share in LOADS:
            rate = share * best["accepted_per_s"]
            options = {**common, "mode": "open", "rate": rate, "seconds": seconds}
            result["open"][f"{share:.0%}"] = {"rate": rate, **summary(load(options))}
            sleep(1)  # so that the queue runs empty
        return {**result, "memory_mib": up.memory()}


def share_of_bare(server: Server, model: str, photos: list[Path], seconds: float, connections: int) -> dict[str, Any]:
    """Compare the server's throughput with that of `Predictor.stream`, in turn, while the other one is idle.

    Returns:
        The photos per second of each measurement, and the ratio of their means. The CPU time of the load generator,
        which the bare Predictor does not need, is taken off the latter.
    """
    rates: list[float] = []
    bare_rates: list[float] = []
    generator: list[float] = []
    with running(server, photos[0]) as up:
        common = {"url": up.url, "photos": [str(photo) for photo in photos], "form": server.form, "seed": 3}
        options = {**common, "mode": "closed", "connections": connections}
        load({**options, "seconds": min(5.0, seconds)})  # warm
        for _ in range(PAIRS):
            bare_rates.append(bare(model, photos, seconds / 2))
            facts = summary(load({**options, "seconds": seconds / 2}))
            rates.append(facts["accepted_per_s"])
            generator.append(facts["generator_cpu_share"])
    left = np.mean(bare_rates) * (1 - np.mean(generator))
    return {"per_s": rates, "bare_per_s": bare_rates, "connections": connections, "share": float(np.mean(rates) / left)}


def bare(model: str, photos: list[Path], seconds: float) -> float:
    """Measure photos per second of `Predictor.stream` alone, from encoded bytes."""
    images = [photo.read_bytes() for photo in photos]
    with Predictor(model) as predictor:
        predictor.predict(images * 4)
        count, start = 0, perf_counter()

        def endless() -> Iterator[bytes]:
            number = 0
            while perf_counter() - start < seconds:
                yield images[number % len(images)]
                number += 1

        for _ in predictor.stream(endless()):
            count += 1
        return count / (perf_counter() - start)


def soak(server: Server, photos: list[Path], count: int, rate: float) -> dict[str, Any]:
    """Send `count` requests at `rate` per second, which should exceed the capacity, and observe the memory."""
    with running(server, photos[0]) as up:
        rss: list[float] = []
        stopped = Event()

        def sample() -> None:
            while not stopped.wait(0.5):
                rss.append(up.memory())

        watcher = Thread(target=sample)
        watcher.start()
        options = {"url": up.url, "photos": [str(photo) for photo in photos], "form": server.form, "seed": 2}
        facts = summary(load({**options, "mode": "open", "rate": rate, "count": count}))
        stopped.set()
        watcher.join()
        tenth = max(1, len(rss) // 10)
        first, last = float(np.median(rss[tenth : 2 * tenth] or rss)), float(np.median(rss[-tenth:]))
        root = up.url.removesuffix(server.path)
        metrics = urllib.request.urlopen(f"{root}/metrics").read().decode()
        pending = next(line for line in metrics.splitlines() if line.startswith("fashion_infer_pending_images "))
        return {
            **facts,
            "rss_mib": [first, last],
            "growth": last / first - 1,
            "pending_after": float(pending.split()[1]),
        }


def prepared(source: Path, folder: Path) -> list[Path]:
    """Make JPEGs of a megapixel from photos spread evenly over all those of a folder."""
    jpegs = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(jpegs) < COUNT:
        raise SystemExit(f"{source} holds {len(jpegs)} JPEGs, {COUNT} are needed: give a folder of garment photos")
    paths = []
    for index in range(COUNT):
        pixels = enlarge(cv2.imread(str(jpegs[index * len(jpegs) // COUNT])), SIZE, np.random.default_rng(index))
        paths.append(folder / f"{index}.jpg")
        cv2.imwrite(str(paths[-1]), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| | photos/s | p50 / p99 ms at " + " | ".join(f"{share:.0%}" for share in LOADS) + " | MiB | s to ready |"
    ]
    lines.append("|---" * (len(LOADS) + 4) + "|")
    for name, facts in result["servers"].items():
        cells = [
            f"{load.get('p50_ms', float('nan')):.0f} / {load.get('p99_ms', float('nan')):.0f}"
            + (f" ({load['refused'] / load['requests']:.0%} refused)" if load["refused"] else "")
            + (f" ({load['failed']} failed)" if load["failed"] else "")
            for load in facts["open"].values()
        ]
        saturation = f"{facts['saturation']['accepted_per_s']:.0f}"
        cells += [f"{facts['memory_mib']:.0f}", f"{facts['seconds_to_ready']:.1f}"]
        lines.append(f"| {name} | {saturation} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure all servers, print the table, and write JSON to the file of -o."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="fashionnet-lite")
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that it works")
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS")
    parser.add_argument("--environments", type=Path, default=Path("build/peers"), help="the peers' packages")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    seconds = 3.0 if options.quick else 30.0
    lit_python = make_environment("litserve", options.environments.resolve())
    with TemporaryDirectory() as folder:
        photos = prepared(options.photos, Path(folder))
        result: dict[str, Any] = {"environment": environment(), "provenance": provenance(), "servers": {}}
        result["photo_bytes"] = int(np.mean([photo.stat().st_size for photo in photos]))
        for server in servers(options.model, lit_python):
            result["servers"][server.name] = measure(server, photos, seconds)
            print(server.name, json.dumps(result["servers"][server.name], indent=1), file=sys.stderr)
        ours, *_ = servers(options.model, lit_python)
        saturation = result["servers"][ours.name]["saturation"]
        wait, connections = PATIENT
        patient = replace(ours, command=[*ours.command[:-1], "--max-wait-ms", str(wait), ours.command[-1]])
        result["share_of_bare"] = {
            "default": share_of_bare(ours, options.model, photos, seconds, saturation["connections"]),
            f"--max-wait-ms {wait}": share_of_bare(patient, options.model, photos, seconds, connections),
        }
        if options.soak:
            result["soak"] = soak(ours, photos, options.soak, 2 * saturation["accepted_per_s"])
    print(table(result))
    for name, facts in result["share_of_bare"].items():
        print(f"share of the bare Predictor's throughput, less the generator's CPU time ({name}): {facts['share']:.2f}")
    if "soak" in result:
        print(f"soak: {json.dumps(result['soak'])}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
