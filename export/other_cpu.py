"""Run an ONNX file on an x86 CPU without VNNI, emulated by qemu-user.

`python -m fashion_infer.export.other_cpu MODEL PICTURES OUTPUTS` is the program that runs inside the emulator.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.backends.onnxruntime import Layout, OnnxRuntimeBackend
from fashion_infer.errors import ModelError
from fashion_infer.machine import has_vnni

EMULATOR = "qemu-x86_64"  # from Debian's package qemu-user; its most capable CPU has AVX2 but no AVX-512
TIMEOUT = 600  # seconds; four photos take ten seconds on an idle core


def can_emulate_avx2() -> bool:
    """Whether this CPU has VNNI, which the emulated one lacks, and the emulator is installed."""
    return has_vnni() and shutil.which(EMULATOR) is not None


def run_on_avx2(path: Path, pictures: NDArray[np.uint8]) -> Outputs:
    """Run a file in ONNX Runtime on an emulated CPU that has AVX2 but no VNNI; a picture takes some seconds.

    Args:
        path: The .onnx file.
        pictures: uint8 [N, S, S, 3] RGB.

    Returns:
        Outputs by name, each float32 [N, ...].

    Raises:
        ModelError: The emulated run failed; the message ends with what it printed.
    """
    with TemporaryDirectory(prefix="fashion-infer-") as folder:
        inputs, outputs = Path(folder, "pictures.npy"), Path(folder, "outputs.npz")
        np.save(inputs, pictures)
        program = [sys.executable, "-m", __name__, str(path), str(inputs), str(outputs)]
        emulated = [EMULATOR, "-cpu", "max", *program]
        result = subprocess.run(emulated, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if result.returncode:
            raise ModelError(f"{path} failed on an emulated AVX2 CPU: {result.stderr[-500:]}")
        with np.load(outputs) as arrays:
            return dict(arrays)


def main(path: str, pictures: str, outputs: str) -> None:
    """Run a file on the pictures of a .npy file and write its outputs to a .npz file."""
    arrays = OnnxRuntimeBackend(Path(path), layout=Layout(1, 1, 1)).run(np.load(pictures))
    np.savez(outputs, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
