"""Peer 6: fashion-infer itself, and what only it is asked.

That is its time over a bare session, its time against the floor of decoder and network, the choice of threads, what a
prediction costs after a pause, and the share of the ceiling.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np
from worker import Peer, serve

from fashion_infer import Predictor, __version__


def load(options: dict[str, Any]) -> Peer:
    """Options: model, and perhaps backend."""
    model, backend = options["model"], options.get("backend")
    predictor = Predictor(model, backend=backend)

    def one(source: Any) -> Any:
        prediction = predictor.predict(source)
        scores = {label.name: label.score for label in prediction.categories}
        return [scores[name] for name in predictor.spec.categories]

    def many(paths: list[str]) -> int:
        return sum(prediction.error is None for prediction in predictor.stream(paths))

    more = {
        "overhead": lambda _, request: overhead(predictor, model, **request["options"]),
        "floor": lambda _, request: floor(predictor, model, **request["options"]),
        "sparse": lambda _, request: sparse(predictor, model, **request["options"]),
        "layouts": lambda _, request: layouts(model, **request["options"]),
        "ceiling": lambda _, request: ceiling(predictor, model, **request["options"]),
    }
    return Peer(one, many, {"fashion-infer": __version__, "backend": backend or "onnxruntime"}, more)


def overhead(predictor: Predictor, model: str, source: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of `predict` on a decoded picture and of a bare ONNX Runtime session, in turn."""
    session = bare_session(model, stop=True)  # its threads would disturb the other's turn
    pixels = np.load(source)
    batch, names = pixels[None], [output.name for output in session.get_outputs()]
    times: dict[str, list[float]] = {"predict": [], "session.run": []}
    until = perf_counter() + seconds
    while len(times["predict"]) < 10 or perf_counter() < until:
        start = perf_counter()
        predictor.predict(pixels)
        middle = perf_counter()
        session.run(names, {"images": batch})
        times["predict"].append(round((middle - start) * 1e3, 3))
        times["session.run"].append(round((perf_counter() - middle) * 1e3, 3))
    return {name: values[3:] for name, values in times.items()}


def bare_session(model: str, *, stop: bool) -> Any:
    """ONNX Runtime as it comes; with `stop` its threads stop spinning when a run ends."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if stop:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def floor(
    predictor: Predictor, model: str, sources: dict[str, list[str]], seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of `predict` on a JPEG, of the JPEG decoder alone at that scale and of a bare session, in turn."""
    import simplejpeg

    from fashion_infer.images import read_image

    session = bare_session(model, stop=True)
    names, size = [output.name for output in session.get_outputs()], predictor.spec.image_size
    batch = np.zeros((1, size, size, 3), np.uint8)
    times: dict[str, dict[str, list[float]]] = {}
    for name, paths in sources.items():
        photos = [Path(path).read_bytes() for path in paths]
        whole = read_image(photos[0], side=size)
        scale = round(whole.height / whole.pixels.shape[0])
        smallest = {"min_height": -(-whole.height // scale), "min_width": -(-whole.width // scale)} if scale > 1 else {}
        latencies_ms = times[name] = {"predict": [], "decoder": [], "session.run": []}
        until = perf_counter() + seconds
        while len(latencies_ms["predict"]) < 10 or perf_counter() < until:
            photo = photos[len(latencies_ms["predict"]) % len(photos)]
            start = perf_counter()
            predictor.predict(photo)
            predicted = perf_counter()
            simplejpeg.decode_jpeg(photo, "RGB", **smallest)
            decoded = perf_counter()
            session.run(names, {"images": batch})
            marks = [start, predicted, decoded, perf_counter()]
            for kind, ms in zip(latencies_ms, np.diff(marks) * 1e3, strict=True):
                latencies_ms[kind].append(round(ms, 3))
    return times


def sparse(predictor: Predictor, model: str, source: str, pauses: list[float], count: int) -> list[dict[str, Any]]:
    """Median milliseconds of a run after a pause, and CPU time an image; of us, and of sessions that spin or not."""
    pixels = np.load(source)
    rows = [{"what": "predict", **after_pause(lambda: predictor.predict(pixels), p, count)} for p in pauses]
    for name, stop in (("session.run as it comes", False), ("session.run that stops spinning", True)):
        session = bare_session(model, stop=stop)
        run = partial(session.run, [output.name for output in session.get_outputs()], {"images": pixels[None]})
        rows += [{"what": name, **after_pause(run, pause, count)} for pause in pauses]
        del session, run  # with it its threads, which would take the next one's cores
    return rows


def after_pause(run: Callable[[], object], pause: float, count: int) -> dict[str, float]:
    """Median milliseconds of runs that each follow a pause in seconds, and the mean CPU time of both."""
    for _ in range(5):
        run()
    times: list[float] = []
    cpu = process_time()
    for _ in range(count):
        sleep(pause)
        start = perf_counter()
        run()
        times.append((perf_counter() - start) * 1e3)
    return {"pause_ms": pause * 1e3, "ms": median(times), "cpu_ms": (process_time() - cpu) / count * 1e3}


def layouts(model: str, sources: list[str], cores: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images a second of `stream`, and of one `predict` after the other, by layout.

    The layouts are those by hand, sessions x threads, and the automatic one; they take turns.
    """
    choices = {f"{cores // threads} x {threads}": (cores // threads, threads) for threads in range(1, cores + 1)}
    predictors = {name: Predictor(model, sessions=s, threads=t) for name, (s, t) in choices.items() if s * t == cores}
    predictors["automatic"] = Predictor(model)
    rates: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in predictors} for kind in ("stream", "lone")}
    for number in range(rounds + 1):
        for name in list(predictors)[:: 1 - 2 * (number % 2)]:  # there and back: none always comes after the same
            start = perf_counter()
            done = sum(1 for _ in predictors[name].stream(sources))
            middle = perf_counter()
            alone = sources[: max(3, len(sources) // 4)]
            for source in alone:
                predictors[name].predict(source)
            if number:  # the first round is warm-up
                rates["stream"][name].append(done / (middle - start))
                rates["lone"][name].append(len(alone) / (perf_counter() - middle))
    for predictor in predictors.values():
        predictor.close()
    return rates


def ceiling(predictor: Predictor, model: str, source: str, cores: int, rounds: int) -> dict[str, Any]:
    """The share that the engine reaches at batch 8 of a matrix product on the same cores, in turn."""
    import onnx

    from fashion_infer.bench.ceiling import count_operations, measure_ceiling

    operations = count_operations(onnx.load(model))
    batch = np.repeat(np.load(source)[None], 8, axis=0)
    predictor.run(batch)
    shares = []
    for _ in range(rounds):
        limits = measure_ceiling(cores, seconds=1)
        start = perf_counter()
        for _ in range(3):
            predictor.run(batch)
        seconds = (perf_counter() - start) / 3
        shares.append(8 * sum(count / limits[kind] for kind, count in operations.items()) / seconds)
    return {"operations": operations, "shares": shares}


if __name__ == "__main__":
    serve(load)
