"""The process that `two_trees.py` starts for a checkout: it takes one measurement for each line of its input."""

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

DECODED = "decoded, 224 x 224"


def serve(tree: str, model: str, files: list[str]) -> None:
    """Print the list of tasks, then answer each line [task, seconds] with milliseconds per image."""
    sys.path.insert(0, tree)
    import numpy as np

    import fashion_infer

    assert Path(fashion_infer.__file__).is_relative_to(Path(tree).resolve()), fashion_infer.__file__
    photos = [Path(file).read_bytes() for file in files]
    with fashion_infer.Predictor(model) as predictor:
        tasks: dict[str, Any] = {Path(file).parent.name: [photo] for file, photo in zip(files, photos, strict=True)}
        tasks[DECODED] = [np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)]
        print(json.dumps([*tasks, "stream"]), flush=True)
        for line in sys.stdin:
            task, seconds = json.loads(line)
            if task == "stream":
                answer = 1e3 / stream_rate(predictor, photos, seconds)
            else:
                answer = median(lone_ms(predictor, tasks[task][0], seconds))
            print(json.dumps(answer), flush=True)


def lone_ms(predictor: Any, photo: Any, seconds: float) -> list[float]:
    """Measure the milliseconds of predictions made one after the other."""
    times: list[float] = []
    until = perf_counter() + seconds
    while len(times) < 5 or perf_counter() < until:
        start = perf_counter()
        predictor.predict(photo)
        times.append((perf_counter() - start) * 1e3)
    return times


def stream_rate(predictor: Any, photos: list[bytes], seconds: float) -> float:
    """Measure the images per second of a stream of the two smaller sizes."""
    until = perf_counter() + seconds

    def images() -> Any:
        while perf_counter() < until:
            yield from photos[:2]

    start = perf_counter()
    done = sum(1 for _ in predictor.stream(images()))
    return done / (perf_counter() - start)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3:])
