"""Facts about this machine: its CPU, the usable cores, and the installed packages."""

import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path("/")
VNNI = ("avx512_vnni", "avx_vnni")  # as Linux names the two instruction sets in a CPU's flags


def cpu_name() -> str:
    """The model of the CPU; may be empty if the system does not report it."""
    return _cpu_info("model name") or platform.processor()


def has_vnni() -> bool:
    """Whether the CPU can add up 8-bit products in 32 bits (AVX-512 VNNI or AVX-VNNI); False if that is unknown."""
    return not set(VNNI).isdisjoint(_cpu_info("flags").split())


def usable_cores(root: Path = ROOT) -> int:
    """The number of cores that this process may use: by its CPU affinity, or its control group's quota if that is less.

    A quota is rounded up to whole cores.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cpu_quota(root))))


def _cpu_quota(root: Path) -> float:
    """The smallest CPU quota, in cores, of this process's control group and its parents; infinite without a quota."""
    quotas = [math.inf]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "cpu", "cpu,cpuacct"):
            mounted = root / "sys/fs/cgroup" / controllers
            folder = mounted / group.lstrip("/")
            above = [parent for parent in folder.parents if parent.is_relative_to(mounted)]
            quotas += [_quota_of(place) for place in (folder, *above)]
    return min(quotas)


def _quota_of(group: Path) -> float:
    """The CPU quota of a control group, in cores; version 1 of control groups has one file for each number."""
    lines = _lines(group / "cpu.max") or [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]
    numbers = " ".join(lines).split()
    if len(numbers) != 2 or numbers[0] in ("max", "-1"):
        return math.inf
    return int(numbers[0]) / int(numbers[1])


def _cpu_info(name: str) -> str:
    """The first value with a name in /proc/cpuinfo, empty if there is none."""
    values = (line.partition(":")[2].strip() for line in _lines(ROOT / "proc/cpuinfo") if line.startswith(name))
    return next(values, "")


def _lines(path: Path) -> list[str]:
    """The lines of a system file; empty if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def package_version(package: str) -> str | None:
    """The installed version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
