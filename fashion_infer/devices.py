"""The names of devices: "cpu", "cuda" and "cuda:1"."""

from fashion_infer.errors import DeviceError


def gpu_index(device: str) -> int:
    """The index in "cuda:1"; plain "cuda" is the first GPU.

    Raises:
        DeviceError: it names something else.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise DeviceError(f"an engine runs on cuda, cuda:0, cuda:1, ..., not on {device!r}")
    return int(index or "0")
