"""The names of devices: "cpu", "cuda" and "cuda:1"."""

from fashion_infer.errors import DeviceError


def parse_device(device: str) -> tuple[str, int]:
    """The kind of a device, "cpu" or "cuda", and its index; plain "cuda" is the first GPU.

    Raises:
        DeviceError: it names something else.
    """
    if device == "cpu":
        return "cpu", 0
    if (index := _cuda_index(device)) is None:
        raise DeviceError(f"unknown device {device!r}: it is cpu, cuda, cuda:0, cuda:1, ...")
    return "cuda", index


def gpu_index(device: str) -> int:
    """The index of a GPU: 1 in "cuda:1".

    Raises:
        DeviceError: it is no GPU.
    """
    if (index := _cuda_index(device)) is None:
        raise DeviceError(f"an engine runs on cuda, cuda:0, cuda:1, ..., not on {device!r}")
    return index


def _cuda_index(device: str) -> int | None:
    kind, colon, index = device.partition(":")
    if kind != "cuda" or (colon and not index.isdecimal()):
        return None
    return int(index or "0")
