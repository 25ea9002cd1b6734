"""The conditions of a measurement: the machine, the versions, the commit."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from fashion_infer.machine import cpu_name, package_version, usable_cores

OWN_PATH = "fashion_infer/bench/environment.py"  # path of this file in its repository
PACKAGES = (
    "fashion-infer",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "mlcommons-loadgen",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
)


def environment() -> dict[str, Any]:
    """The machine, its load before the first measurement, and the versions of packages."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := package_version(name))},
    }


def provenance() -> dict[str, Any]:
    """Return the command, and the commit if the package runs from its checkout, with "-dirty" if files were changed.

    Of absolute paths in the command only the last name is kept, since results are published and folders are private.
    An installed package has no commit, even if its folder lies in another repository.
    """
    arguments = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = " ".join([Path(sys.argv[0]).name, *arguments])
    own = _git("ls-files", "--full-name", Path(__file__).name) == OWN_PATH
    described = _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") if own else None
    return {"command": command, "commit": described}


def peak_memory_mib() -> float | None:
    """Peak memory of this process so far, MiB; None without Linux's /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _git(*arguments: str) -> str | None:
    """The output of a git command in this file's repository; variables that git hooks set are ignored."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _output("git", "-C", str(Path(__file__).parent), *arguments, environment=environment)


def _output(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str | None:
    """The output of a program; None if it is not installed or fails."""
    if shutil.which(program) is None:
        return None
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)
    return ran.stdout.strip() if ran.returncode == 0 else None
