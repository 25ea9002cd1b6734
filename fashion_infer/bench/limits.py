"""A description in words of what limits the speed of a model on this machine."""

from fashion_infer.bench.result import BenchResult

_WORK = {
    "decode": "reading and decoding it",
    "preprocess": "cutting and scaling it",
    "queue": "waiting",
    "compute": "the network",
    "post": "turning outputs into words",
}
PAYS = 1.1  # batching pays if it gives at least this many times the images per second of single images


def limits(result: BenchResult) -> str:
    """A paragraph on where an image's time goes, what the network reaches, and what limits a stream of images."""
    sentences = [_stages(result), _batches(result), _stream(result), _ceiling(result)]
    return " ".join(sentence for sentence in sentences if sentence)


def _stages(result: BenchResult) -> str:
    total = sum(stage.value for stage in result.stages.values())
    longest, second = sorted(result.stages, key=lambda name: -result.stages[name].value)[:2]
    shares = [f"{_WORK[name]} takes {result.stages[name].value / total:.0%}" for name in (longest, second)]
    return f"One image alone takes {total:.3g} ms on average: {shares[0]} of that time, {shares[1]}."


def _best_batch(result: BenchResult) -> tuple[str, float]:
    rates = {size: rate.value for size, rate in result.throughput["engine"].items()}
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]


def _batches(result: BenchResult) -> str:
    size, rate = _best_batch(result)
    single = result.throughput["engine"].get("1")
    if single is None or len(result.throughput["engine"]) == 1:
        return ""
    if rate < PAYS * single.value:
        return "Larger batches do not pay for the network: images a second stay the same, and each waits longer."
    return (
        f"In batches of {size} the network does {rate / single.value:.1f} times as many images a second as singly, "
        f"and a batch takes {int(size) / rate * 1e3:.3g} ms in place of {1e3 / single.value:.3g} ms."
    )


def _stream(result: BenchResult) -> str:
    size, rate = _best_batch(result)
    stream: float = result.throughput["e2e"].value
    share = stream / rate
    start = f"A stream of images gives {stream:.3g} a second end to end"
    if share < 0.8:
        others = {name: stage.value for name, stage in result.stages.items() if name not in ("compute", "queue")}
        most = max(others, key=lambda name: others[name])
        return (
            f"{start}, {share:.0%} of what the network alone does in batches of {size}: the work around the network "
            f"limits it, above all {_WORK[most]} ({others[most]:.3g} ms an image)."
        )
    return f"{start}, {share:.0%} of what the network alone does in batches of {size}: the network limits it."


def _ceiling(result: BenchResult) -> str:
    if not result.reached:
        return "How near the network comes to this machine's arithmetic was not measured."
    size = max(result.reached, key=lambda size: result.reached[size].value)
    share = result.reached[size].value
    start = (
        f"At best, in batches of {size}, it reaches {share:.0%} of the operations a second of a large matrix product"
    )
    if share >= 0.6:
        return f"{start}: arithmetic limits it, so fewer bits, a smaller network or more cores would help."
    return (
        f"{start}; the rest usually goes to moving data through memory, and to layers too small to keep all units busy."
    )
