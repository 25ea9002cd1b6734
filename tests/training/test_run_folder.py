import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fashion_infer.errors import TrainingError
from fashion_infer.training.model import Architecture, FashionNet
from fashion_infer.training.run_folder import (
    State,
    load_state,
    open_folder,
    open_logs,
    report_skipped,
    save_state,
)

# TensorBoard's own thread dies of a full disk, some time after the error that ends the run
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def new_state(seed: int, scaled: bool = False) -> State:
    torch.manual_seed(seed)
    model = FashionNet(Architecture("vgg16", 32, 3, 4, 8, width=0.02))
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.square().sum() for parameter in model.parameters()).backward()
    optimizer.step()
    scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=2.0**seed)
    ema = FashionNet(model.arch)
    return State(model, ema, optimizer, scaler, step=seed)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_comes_back_to_the_bit(tmp_path: Path) -> None:
    saved, other = new_state(5, scaled=True), new_state(6, scaled=True)
    save_state(tmp_path / "state", saved)
    numbers = torch.rand(3)
    load_state(tmp_path / "state", other)
    assert torch.equal(torch.rand(3), numbers)
    assert other.step == 5
    assert other.scaler.get_scale() == 32
    for one, two in ((saved.model, other.model), (saved.ema, other.ema)):
        assert all(
            torch.equal(*pair) for pair in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        )
    moments, restored = saved.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert moments.keys() == restored.keys()
    assert all(torch.equal(moments[i][name], restored[i][name]) for i in moments for name in moments[i])


def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, new_state(1))
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(TrainingError, match=r"state cannot be written .*last good state"):
        save_state(path, new_state(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_stops_the_log(tmp_path: Path) -> None:
    with (
        full_disk(2000),
        pytest.raises(TrainingError, match=r"cannot be written"),
        open_logs(tmp_path, 0) as log,
    ):
        for step in range(200):
            log("train", step, {"loss": 1.0})


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state"
    save_state(path, new_state(1))
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(TrainingError, match=r"state is damaged, or of another network"):
        load_state(path, new_state(2))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    save_state(tmp_path / "state.safetensors", new_state(1))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError, match=r"config\.json is missing or damaged"):
        open_folder(tmp_path, {}, new_state(1), resume=True)


def test_what_was_logged_after_the_last_state_is_logged_once(tmp_path: Path) -> None:
    with open_logs(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log("train", step, {"loss": float(step)})
    with open_logs(tmp_path, 2) as log:
        log("train", 3, {"loss": 30.0})
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == [
        '{"kind": "train", "step": 1, "loss": 1.0}',
        '{"kind": "train", "step": 2, "loss": 2.0}',
        '{"kind": "train", "step": 3, "loss": 30.0}',
    ]


def test_skipped_images_of_earlier_parts_stay_listed(tmp_path: Path) -> None:
    report_skipped({}, tmp_path)
    assert not (tmp_path / "skipped.json").exists()
    report_skipped({"a.jpg": "is empty"}, tmp_path)
    report_skipped({"b.jpg": "is damaged"}, tmp_path)
    assert "a.jpg" in (tmp_path / "skipped.json").read_text()
    assert "b.jpg" in (tmp_path / "skipped.json").read_text()


def test_a_run_killed_before_its_first_epoch_can_be_resumed(tmp_path: Path) -> None:
    begun, later = new_state(1), new_state(2)
    begun.step = 0
    open_folder(tmp_path, {"seed": 1}, begun, resume=False)
    open_folder(tmp_path, {"seed": 1}, later, resume=True)
    assert later.step == 0
    same = zip(begun.model.state_dict().values(), later.model.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in same)
