from pathlib import Path

import pytest

from fashion_infer import Predictor


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")


def test_under_twice_its_load_every_request_is_answered_once_and_memory_stays_flat(onnx_model: Path) -> None:
    from soak import soak

    predictor = Predictor(onnx_model, sessions=2, threads=1, max_queue=64, max_batch=16)
    found = soak(predictor, 6_000)
    assert sum(found.outcomes.values()) == 6_000
    assert (found.unanswered, found.twice, found.wrong) == (0, 0, 0)
    known = {"answered", "QueueFullError", "DeadlineExceededError", "CancelledError", "ImageError"}
    assert set(found.outcomes) <= known
    assert found.outcomes["answered"] > 2_000
    assert found.outcomes["CancelledError"] > 0 and found.outcomes["ImageError"] > 0
    early, late = max(found.rss[: len(found.rss) // 2]), max(found.rss[len(found.rss) // 2 :])
    assert late - early < 16 * 2**20, [size >> 20 for size in found.rss]
