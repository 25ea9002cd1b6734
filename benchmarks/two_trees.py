"""Two checkouts of this repository side by side: how long a lone predict takes, and how fast a stream is.

    git worktree add /tmp/before COMMIT
    python benchmarks/two_trees.py /tmp/before . PHOTOS

Each start is a new process of either, and within it they take turns: old, new, old, new. The ratio of each start makes
the 95 % interval. Nothing else should run on the machine.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from photos import make_photos

from fashion_infer.bench.environment import environment
from fashion_infer.bench.statistics import Estimate, over_starts

HERE = Path(__file__).resolve().parent
WARM_UP = 1.0  # seconds of each task that are not counted


class Tree:
    """A process that measures one checkout."""

    def __init__(self, tree: Path, model: str, files: list[str]) -> None:
        """Start it."""
        command = [sys.executable, str(HERE / "tree_worker.py"), str(tree), model, *files]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tasks: list[str] = self._read()

    def ask(self, task: str, seconds: float) -> float:
        """Milliseconds an image."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, seconds]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended with code {self._process.wait()}")
        return json.loads(line)


def compare(old: Path, new: Path, model: str, files: list[str], starts: int, turns: int, seconds: float) -> Any:
    """Milliseconds of each turn: {task: {"old": [start][turn], "new": ...}}."""
    taken: dict[str, dict[str, list[list[float]]]] = {}
    for start in range(starts):
        pair = {"old": Tree(old, model, files), "new": Tree(new, model, files)}
        for task in pair["old"].tasks:
            for tree in pair.values():
                tree.ask(task, WARM_UP)
            times: dict[str, list[float]] = {name: [] for name in pair}
            for turn in range(turns):
                for name in list(pair)[:: 1 - 2 * (turn % 2)]:  # there and back: none always comes after the same
                    times[name].append(pair[name].ask(task, seconds))
            for name in pair:
                taken.setdefault(task, {"old": [], "new": []})[name].append(times[name])
        for tree in pair.values():
            tree.close()
        print(f"start {start + 1} of {starts} is done", file=sys.stderr)
    return taken


def ratios(taken: dict[str, dict[str, list[list[float]]]]) -> dict[str, Estimate]:
    """How many times as fast the new one is, with its interval over the starts."""
    return {
        task: over_starts([median(a) / median(b) for a, b in zip(times["old"], times["new"], strict=True)])
        for task, times in taken.items()
    }


def main(
    old: Annotated[Path, typer.Argument(help="A checkout.")],
    new: Annotated[Path, typer.Argument(help="The other one.")],
    photos: Annotated[Path, typer.Argument(help="A folder of garment photos, at least eight JPEGs.")],
    model: Annotated[str, typer.Option(help="A path, or a built-in name.")] = "fashionnet-lite",
    starts: Annotated[int, typer.Option(help="Of both, 2 to 10.")] = 5,
    turns: Annotated[int, typer.Option(help="Of each within a start.")] = 6,
    seconds: Annotated[float, typer.Option(help="Of a turn.")] = 1.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON of everything.")] = None,
) -> None:
    """Print how many times as fast the new checkout is."""
    made = make_photos(photos, Path("build") / "photos")
    files = [str(made[size][0].resolve()) for size in ("0.3MP", "2MP", "12MP")]
    taken = compare(old.resolve(), new.resolve(), model, files, starts, turns, seconds)
    for task, ratio in ratios(taken).items():
        before, after = (median(map(median, taken[task][name])) for name in ("old", "new"))
        print(f"{task:>20}: {before:7.2f} -> {after:7.2f} ms an image, {ratio} times as fast")
    if output is not None:
        output.write_text(json.dumps({"environment": environment(), "milliseconds": taken}) + "\n")


if __name__ == "__main__":
    typer.run(main)
