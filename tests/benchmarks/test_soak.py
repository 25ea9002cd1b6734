from pathlib import Path

import pytest

from fashion_infer import Predictor


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")


def test_under_twice_its_load_every_request_is_answered_once_and_memory_stays_flat(onnx_model: Path) -> None:
    from soak import soak

    predictor = Predictor(onnx_model, sessions=2, threads=1, max_queue=64, max_batch=16)
    result = soak(predictor, 6_000)
    assert sum(result.outcomes.values()) == 6_000
    assert (result.unanswered, result.twice, result.wrong) == (0, 0, 0)
    allowed = {"answered", "QueueFullError", "DeadlineExceededError", "CancelledError", "ImageError"}
    assert set(result.outcomes) <= allowed
    assert result.outcomes["answered"] > 2_000
    assert result.outcomes["CancelledError"] > 0 and result.outcomes["ImageError"] > 0
    early, late = max(result.rss[: len(result.rss) // 2]), max(result.rss[len(result.rss) // 2 :])
    assert late - early < 16 * 2**20, [size >> 20 for size in result.rss]
