import pytest

from fashion_infer.devices import gpu_index
from fashion_infer.errors import DeviceError


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:11", 11)])
def test_the_index_of_a_gpu(device: str, index: int) -> None:
    assert gpu_index(device) == index


@pytest.mark.parametrize("device", ["cpu", "gpu:0", "cuda:x", "cuda:-1", "", "cuda:0:1", "cuda:²"])
def test_what_is_no_gpu_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match="an engine runs on cuda"):
        gpu_index(device)
