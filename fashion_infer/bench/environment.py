"""What was measured and on what: the machine, the versions, the commit."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from fashion_infer.machine import cpu_name, package_version, usable_cores

OWN_PATH = "fashion_infer/bench/environment.py"  # of this file in its repository
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
    """The machine, how busy it was before the first measurement, and the versions of what runs on it."""
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
    """The command, and the commit where this package runs from its own checkout, "-dirty" when files differ from it.

    An installed package has no commit, even where a repository of somebody else's lies around it.
    """
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    own = _git("ls-files", "--full-name", Path(__file__).name) == OWN_PATH
    described = _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*") if own else None
    return {"command": command, "commit": described}


def peak_memory_mib() -> float | None:
    """The most memory that this process has used so far, MiB; None where Linux's /proc is missing."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _memory_gib() -> float:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _git(*arguments: str) -> str | None:
    """What git says of the repository that this file lies in; a hook's variables would name another."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _output("git", "-C", str(Path(__file__).parent), *arguments, environment=environment)


def _output(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str | None:
    """What a program prints; None where it is not installed or fails."""
    if shutil.which(program) is None:
        return None
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)
    return ran.stdout.strip() if ran.returncode == 0 else None
