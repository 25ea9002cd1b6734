"""Compare two checkouts of this repository: the time of single predictions, and the speed of a stream.

    git worktree add /tmp/before COMMIT
    python benchmarks/two_trees.py /tmp/before . PHOTOS

Each start launches a new process for each checkout, and these take turns (old, new, new, old). The 95 % interval is
over the ratios of the starts. Nothing else should run on the machine.
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
WARM_UP = 1.0  # seconds of warm-up for each task


class Tree:
    """A process that measures one checkout."""

    def __init__(self, tree: Path, model: str, files: list[str]) -> None:
        """Start the process."""
        command = [sys.executable, str(HERE / "tree_worker.py"), str(tree), model, *files]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.tasks: list[str] = self._read()

    def ask(self, task: str, seconds: float) -> float:
        """Measure a task and return its milliseconds per image."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, seconds]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended with code {self._process.wait()}")
        return json.loads(line)


def compare(old: Path, new: Path, model: str, files: list[str], starts: int, turns: int, seconds: float) -> Any:
    """Measure milliseconds per image by task, checkout, start and turn: {task: {"old": [start][turn], "new": ...}}."""
    milliseconds: dict[str, dict[str, list[list[float]]]] = {}
    for start in range(starts):
        pair = {"old": Tree(old, model, files), "new": Tree(new, model, files)}
        for task in pair["old"].tasks:
            for tree in pair.values():
                tree.ask(task, WARM_UP)
            times: dict[str, list[float]] = {name: [] for name in pair}
            for turn in range(turns):
                for name in list(pair)[:: 1 - 2 * (turn % 2)]:  # alternating order, so that none is always first
                    times[name].append(pair[name].ask(task, seconds))
            for name in pair:
                milliseconds.setdefault(task, {"old": [], "new": []})[name].append(times[name])
        for tree in pair.values():
            tree.close()
        print(f"start {start + 1} of {starts} is done", file=sys.stderr)
    return milliseconds


def ratios(milliseconds: dict[str, dict[str, list[list[float]]]]) -> dict[str, Estimate]:
    """Compute how many times as fast the new checkout is, with the interval over the starts."""
    return {
        task: over_starts([median(a) / median(b) for a, b in zip(times["old"], times["new"], strict=True)])
        for task, times in milliseconds.items()
    }


def main(
    old: Annotated[Path, typer.Argument(help="The old checkout.")],
    new: Annotated[Path, typer.Argument(help="The new checkout.")],
    photos: Annotated[Path, typer.Argument(help="A folder of garment photos, at least eight JPEGs.")],
    model: Annotated[str, typer.Option(help="A path, or a built-in name.")] = "fashionnet-lite",
    starts: Annotated[int, typer.Option(help="Starts of both, 2 to 10.")] = 5,
    turns: Annotated[int, typer.Option(help="Turns of each checkout per start.")] = 6,
    seconds: Annotated[float, typer.Option(help="Length of a turn.")] = 1.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file for all measurements.")] = None,
) -> None:
    """Print how many times as fast the new checkout is."""
    paths = make_photos(photos, Path("build") / "photos")
    files = [str(paths[size][0].resolve()) for size in ("0.3MP", "2MP", "12MP")]
    milliseconds = compare(old.resolve(), new.resolve(), model, files, starts, turns, seconds)
    for task, ratio in ratios(milliseconds).items():
        before, after = (median(map(median, milliseconds[task][name])) for name in ("old", "new"))
        print(f"{task:>20}: {before:7.2f} -> {after:7.2f} ms an image, {ratio} times as fast")
    if output is not None:
        output.write_text(json.dumps({"environment": environment(), "milliseconds": milliseconds}) + "\n")


if __name__ == "__main__":
    typer.run(main)
