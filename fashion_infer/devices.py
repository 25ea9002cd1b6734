"""Parser of the names of devices: "cpu", "cuda" and "cuda:1"."""

from fashion_infer.errors import DeviceError


def parse_device(device: str) -> tuple[str, int]:
    """Parse a name into the kind of the device, "cpu" or "cuda", and its index; "cuda" means the first GPU.

    Raises:
        DeviceError: the name is not that of a device.
    """
    if device == "cpu":
        return "cpu", 0
    if (index := _cuda_index(device)) is None:
        raise DeviceError(f"unknown device {device!r}: it is cpu, cuda, cuda:0, cuda:1, ...")
    return "cuda", index


def gpu_index(device: str) -> int:
    """Parse the name of a GPU into its index, such as 1 for "cuda:1".

    Raises:
        DeviceError: the name is not that of a GPU.
    """
    if (index := _cuda_index(device)) is None:
        raise DeviceError(f"an engine runs on cuda, cuda:0, cuda:1, ..., not on {device!r}")
    return index


def _cuda_index(device: str) -> int | None:
    kind, colon, index = device.partition(":")
    if kind != "cuda" or (colon and not index.isdecimal()):
        return None
    return int(index or "0")
