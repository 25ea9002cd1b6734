"""A worker on a Ray cluster: each actor has a Predictor and computes one chunk at a time.

Nodes may fail or join during a run; the chunk of a lost actor goes to another one. Only the process that distributes
the chunks writes files, so the nodes need access to the photos and the model but not to the output folder.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from socket import create_connection
from time import monotonic, sleep
from typing import Any

import pyarrow as pa

from fashion_infer import __version__
from fashion_infer.embed.catalogue import Item
from fashion_infer.embed.chunks import OneMachine, Terms
from fashion_infer.errors import DeviceError, FashionInferError, missing_extra
from fashion_infer.gallery.rows import Facts
from fashion_infer.machine import usable_cores
from fashion_infer.model_file import read_model
from fashion_infer.models import FOLDER, find_model
from fashion_infer.predictor import Predictor

try:
    import ray
    from ray._private import ray_constants
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise missing_extra("ray", "ray", error) from error

LOSSES = 3  # a chunk whose actors were lost this often has failed
LOOK = 2.0  # seconds between two queries for the cluster's nodes
CONNECT = 10.0  # seconds to wait for an address to answer
PATIENCE = 60.0  # seconds without a node that has CPUs, after which the run ends

logger = logging.getLogger("fashion_infer")


class _Actor:
    """One Predictor in a process of its own, on some node."""

    def open(self, model: str, sha256: str, settings: dict[str, Any], version: str) -> Facts:
        """Load the model, check that it is the file that the run began with, and return its facts."""
        if version != __version__:
            raise DeviceError(f"the node has fashion-infer {__version__}, the run was begun with {version}")
        self._worker = OneMachine(Predictor(model, require_hash=sha256, **settings))
        return self._worker.facts

    def embed(self, number: int, items: list[Item], terms: Terms) -> pa.Table:
        """Compute the table of a chunk."""
        ((_, table),) = self._worker.tables(iter([(number, items)]), terms)
        return table


@dataclass
class _Place:
    """An actor and its current work.

    Attributes:
        node: id of the actor's node.
        actor: handle of the actor.
        running: reference of the pending call; None if the actor is idle.
        chunk: number and photos of the actor's chunk; None while it loads the model.
    """

    node: str
    actor: Any
    running: Any
    chunk: tuple[int, list[Item]] | None = None


class Cluster:
    """A worker that computes on a Ray cluster; a context manager."""

    def __init__(self, model: str, settings: dict[str, Any], address: str) -> None:
        """Join a cluster and wait until its first actor has loaded the model.

        Args:
            model: path, the same on every node, or a built-in name.
            settings: keyword arguments of each actor's Predictor. With a CUDA device there is one actor for each GPU,
                otherwise one for each node.
            address: address of the cluster for `ray.init`; "local" starts one on this machine, on loopback only.

        Raises:
            DeviceError: there is no such cluster, or none of its nodes can run an actor.
            FashionInferError: the model cannot be loaded on a node.
        """
        path = find_model(model)
        self._model = model if path.parent == FOLDER else str(path.resolve())
        self._sha256 = read_model(path).sha256
        self._settings = settings
        self._on_gpus = str(settings.get("device") or "").startswith("cuda")
        self._places: list[_Place] = []
        self._looked, self._alive = 0.0, monotonic()
        _join(address)
        try:
            self.facts = self._first_facts()
        except BaseException:
            ray.shutdown()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()  # ends our actors as well

    def tables(self, chunks: Iterator[tuple[int, list[Item]]], terms: Terms) -> Iterator[tuple[int, pa.Table]]:
        """Yield each chunk when it is finished.

        Raises:
            DeviceError: no node is left; or, once the other chunks are done, chunks that ended their actor three times.
            FashionInferError: a node cannot load the model.
        """
        again: deque[tuple[int, list[Item]]] = deque()
        losses: Counter[int] = Counter()
        given_up: list[str] = []
        while True:
            for place in self._places:
                if place.running is None and (chunk := again.popleft() if again else next(chunks, None)) is not None:
                    place.chunk = chunk
                    place.running = place.actor.embed.remote(*chunk, terms)
            if not again and all(place.chunk is None for place in self._places) and self._has_idle():
                break
            for place, result in self._results():
                chunk, place.chunk = place.chunk, None
                if chunk is None:
                    continue
                if result is not None:
                    yield chunk[0], result
                    continue
                losses[chunk[0]] += 1
                if losses[chunk[0]] < LOSSES:
                    again.append(chunk)
                else:
                    given_up.append(f"{chunk[1][0].path} to {chunk[1][-1].path}")
        if given_up:
            raise DeviceError(
                f"{len(given_up)} chunks ended their actor {LOSSES} times each and are left out, "
                f"{', '.join(given_up)}: look for what these photos do to a node's memory, then run the same command "
                "again"
            )

    def _has_idle(self) -> bool:
        return any(place.running is None for place in self._places)

    def _first_facts(self) -> Facts:
        while True:
            for _, result in self._results():
                if isinstance(result, Facts):
                    return result

    def _results(self) -> Iterator[tuple[_Place, Any]]:
        """Yield the results since the last call, None for a lost actor; wait a short time for them."""
        self._hire()
        by_reference = {place.running: place for place in self._places if place.running is not None}
        if not by_reference:
            sleep(LOOK)
            return
        done, _ = ray.wait(list(by_reference), timeout=LOOK)
        for reference in done:
            place = by_reference[reference]
            place.running = None
            try:
                yield place, ray.get(reference)
            except RayTaskError as error:
                raise _ours(error, place.node) from error
            except RayError as error:
                logger.warning("an actor on node %s was lost: %s", place.node[:8], type(error).__name__)
                self._places.remove(place)
                ray.kill(place.actor)  # in case it is alive but cannot be reached
                yield place, None

    def _hire(self) -> None:
        """Start an actor for each node, or each GPU, that has none; this replaces lost actors and uses new nodes."""
        if monotonic() < self._looked + LOOK:
            return
        self._looked = monotonic()
        nodes = {node["NodeID"]: node["Resources"] for node in _nodes() if node["Alive"]}
        seats = {node: int(has.get("GPU", 0)) if self._on_gpus else 1 for node, has in nodes.items() if has.get("CPU")}
        if any(seats.values()):
            self._alive = self._looked
        elif monotonic() > self._alive + PATIENCE:
            raise DeviceError(f"for {PATIENCE:.0f} s no node of the cluster had a free {self._needed()} to offer")
        actors_on = Counter(place.node for place in self._places)
        for node, count in seats.items():
            for _ in range(count - actors_on[node]):
                self._places.append(self._actor_on(node, nodes[node]["CPU"] / count))

    def _needed(self) -> str:
        return "GPU" if self._on_gpus else "CPU"

    def _actor_on(self, node: str, cpus: float) -> _Place:
        options: dict[str, Any] = {
            "num_cpus": int(cpus) or cpus,  # all cores of the node, because a Predictor uses them
            "num_gpus": int(self._on_gpus),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        remote: Any = ray.remote(_Actor)
        actor = remote.options(**options).remote()
        opening = actor.open.remote(self._model, self._sha256, self._settings, __version__)
        return _Place(node, actor, opening)


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _join(address: str) -> None:
    if address.partition(":")[0] in ("local", "127.0.0.1", "localhost"):
        _stay_on_loopback()
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": usable_cores(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:  # Ray itself would try for minutes
            create_connection((host, int(port)), timeout=CONNECT).close()
        ray.init(address, **options)
    except (RuntimeError, ValueError, OverflowError, OSError) as error:
        raise DeviceError(f"there is no Ray cluster at {address!r}: {error}") from error


def _stay_on_loopback() -> None:
    """Ray puts this machine's own address in the place of 127.0.0.1, but for a switch that is meant for macOS."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # for the processes that it starts
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this one, which has read the variable already


def _ours(error: RayTaskError, node: str) -> BaseException:
    """The error that an actor raised; a FashionInferError comes without Ray's copy of its traceback."""
    cause: BaseException = error.cause
    if isinstance(cause, FashionInferError):
        return type(cause)(f"on node {node[:8]}: {cause}")
    return error
