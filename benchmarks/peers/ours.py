"""Peer 6: fashion-infer itself, and what only it is asked: overhead, choice of threads, share of the ceiling."""

from time import perf_counter
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
        "layouts": lambda _, request: layouts(model, **request["options"]),
        "ceiling": lambda _, request: ceiling(predictor, model, **request["options"]),
    }
    return Peer(one, many, {"fashion-infer": __version__, "backend": backend or "onnxruntime"}, more)


def overhead(predictor: Predictor, model: str, source: str, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of `predict` on a decoded picture and of a bare ONNX Runtime session, in turn."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # it would disturb the other's turn
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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


def layouts(model: str, sources: list[str], cores: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of `stream` with sessions x threads by hand, and as chosen by the machine, in turn."""
    choices = {f"{cores // threads} x {threads}": (cores // threads, threads) for threads in range(1, cores + 1)}
    predictors = {name: Predictor(model, sessions=s, threads=t) for name, (s, t) in choices.items() if s * t == cores}
    predictors["automatic"] = Predictor(model)
    rates: dict[str, list[float]] = {name: [] for name in predictors}
    for number in range(rounds + 1):
        for name in list(predictors)[:: 1 - 2 * (number % 2)]:  # there and back: none always comes after the same
            start = perf_counter()
            done = sum(1 for _ in predictors[name].stream(sources))
            if number:  # the first round is warm-up
                rates[name].append(done / (perf_counter() - start))
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
