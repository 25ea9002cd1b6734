"""Checks of the installation: packages, and which backends work or why they do not."""

import platform
from dataclasses import dataclass

from fashion_infer.errors import FashionInferError
from fashion_infer.machine import cpu_name, has_vnni, package_version, usable_cores
from fashion_infer.tensorrt.api import MODULES, load_tensorrt

PACKAGES = {
    "numpy": "",
    "opencv-python-headless": "",
    "pillow": "",
    "simplejpeg": "",
    "platformdirs": "",
    "typer": "",
    "rich": "",
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "tensorrt": "gpu",
    "tensorrt-rtx-cu13": "rtx",
    "cuda-python": "rtx",
    "filelock": "rtx",
    "openvino": "openvino",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "timm": "export",
    "torch": "export",
    "tensorboard": "train",
}


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend works, and if not the reason and the remedy."""

    name: str
    works: bool
    detail: str


def installed() -> dict[str, str | None]:
    """The version of each package that this project can use, None if it is not installed."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in PACKAGES}}


def cpu() -> str:
    """The CPU's model, the cores that this process may use, and the CPU's support for int8 models."""
    if platform.machine() not in ("x86_64", "AMD64"):
        kind = f"a {platform.machine()} CPU, on which int8 is not tested"
    elif has_vnni():
        kind = "with VNNI: int8 models run at their full speed"
    else:
        kind = "without VNNI: int8 models give the same answers as with it, and gain less speed"
    return f"{cpu_name()}, {usable_cores()} usable cores, {kind}"


def conflicts() -> list[str]:
    """Packages that overwrite each other's files when both are installed."""
    pairs = [("onnxruntime", "onnxruntime-gpu"), ("opencv-python", "opencv-python-headless")]
    both = [(a, b) for a, b in pairs if package_version(a) and package_version(b)]
    return [f"{a} and {b} are both installed and share files: uninstall both, then install one" for a, b in both]


def backends() -> list[BackendStatus]:
    """Try each backend of this release."""
    return [*_onnxruntime(), _openvino(), *(_tensorrt(flavour) for flavour in MODULES)]


def _onnxruntime() -> list[BackendStatus]:
    try:
        import onnxruntime as ort
    except ImportError as error:
        return [
            BackendStatus("onnxruntime on cpu", False, f'{error}: pip install "fashion-infer[cpu]"'),
            BackendStatus("onnxruntime on cuda", False, f'{error}: pip install "fashion-infer[gpu]"'),
        ]
    cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    why = (
        "has the CUDA provider; the driver is tried when a model is loaded"
        if cuda
        else "this build has no CUDA provider"
    )
    return [
        BackendStatus("onnxruntime on cpu", True, ort.__version__),
        BackendStatus("onnxruntime on cuda", cuda, f"{ort.__version__} {why}"),
    ]


def _openvino() -> BackendStatus:
    try:
        import onnx.inliner  # noqa: F401
        import openvino as ov
    except ImportError as error:
        return BackendStatus("openvino on cpu", False, f'{error}: pip install "fashion-infer[openvino]"')
    return BackendStatus("openvino on cpu", True, ov.__version__)


def _tensorrt(flavour: str) -> BackendStatus:
    """Check whether engines of a flavour can run: its package, cuda-python, a driver and a GPU."""
    name, building = f"tensorrt ({flavour})", ""
    try:
        _, trt = load_tensorrt(flavour)
        building = f"{trt.__version__}" + (" builds engines here; " if flavour == "rtx" else " ")
        from fashion_infer.tensorrt.cuda import find_gpu

        gpu = find_gpu(0)
        load_tensorrt(flavour, gpu.compute_capability)
    except FashionInferError as error:
        return BackendStatus(name, False, f"{building}{error}")
    return BackendStatus(
        name, True, f"{building}{gpu.name}, compute capability {'{}.{}'.format(*gpu.compute_capability)}"
    )
