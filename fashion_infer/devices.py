"""The names of devices: "cpu", "cuda" and "cuda:1"."""

from fashion_infer.errors import DeviceError


def parse_device(device: str) -> tuple[str, int]:
    """The kind of a device, "cpu" or "cuda", and its index; plain "cuda" is the first GPU.

    Raises:
        DeviceError: it names something else.
    """
    kind, colon, index = device.partition(":")
    if device == "cpu":
        return "cpu", 0
    if kind != "cuda" or not (index.isdecimal() if colon else True):
        raise DeviceError(f"unknown device {device!r}: it is cpu, cuda, cuda:0, cuda:1, ...")
    return "cuda", int(index or "0")


def gpu_index(device: str) -> int:
    """The index of a GPU: 1 in "cuda:1".

    Raises:
        DeviceError: it is no GPU.
    """
    kind, index = parse_device(device)
    if kind != "cuda":
        raise DeviceError(f"an engine runs on cuda, cuda:0, cuda:1, ..., not on {device!r}")
    return index
