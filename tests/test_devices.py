import pytest

from fashion_infer.devices import gpu_index, parse_device
from fashion_infer.errors import DeviceError


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:11", 11)])
def test_the_index_of_a_gpu(device: str, index: int) -> None:
    assert gpu_index(device) == index


@pytest.mark.parametrize("device", ["cpu", "gpu:0", "cuda:x", "cuda:-1", "", "cuda:0:1", "cuda:²", "cuda:"])
def test_names_of_other_devices_than_gpus_are_refused(device: str) -> None:
    with pytest.raises(DeviceError, match="an engine runs on cuda"):
        gpu_index(device)


@pytest.mark.parametrize(("device", "expected"), [("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))])
def test_the_kind_and_the_index_of_a_device(device: str, expected: tuple[str, int]) -> None:
    assert parse_device(device) == expected


@pytest.mark.parametrize("device", ["cpu:0", "CPU", "gpu:0", "cuda:x", "cuda:", "cuda:-1", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=r"unknown device .*: it is cpu, cuda, cuda:0"):
        parse_device(device)
