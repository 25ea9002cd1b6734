import os
from pathlib import Path

import numpy as np
import pytest

from fashion_infer.machine import VNNI, cpu_name, has_vnni, package_version, usable_cores


def test_facts_about_this_machine() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert isinstance(cpu_name(), str)
    assert has_vnni() == any(f" {name} " in f" {Path('/proc/cpuinfo').read_text()} " for name in VNNI)


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 1),  # only the parent group has a quota
        ("0::/not/seen/from/here", {"cpu.max": "max 100000"}, None),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "40000", "cpu/a/cpu.cfs_period_us": "100000"}, 1),
        (
            "2:cpu,cpuacct:/",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("3:memory:/a", {"memory/a/cpu.max": "1000 100000"}, None),
        ("0::/", {"cpu.max": "10000000 100000"}, None),  # a quota of 100 cores is no limit
        ("0::/", {}, None),
    ],
)
def test_a_quota_of_the_control_group_counts(
    cgroup: str, files: dict[str, str], cores: int | None, tmp_path: Path
) -> None:
    texts = {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_versions_of_packages() -> None:
    assert package_version("numpy") == np.__version__
    assert package_version("no-such-package-anywhere") is None
