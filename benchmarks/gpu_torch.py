"""What gpu.py needs of torch: its contender, the GPU's ceiling, and networks with random weights.

NOT RUN ON A GPU YET. A part of gpu.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
from gpu_pooling import capture
from gpu_timing import Pixels, Run
from numpy.typing import NDArray

from fashion_infer.backends import Outputs

IMAGE_SIZE = 224


def torch_network(checkpoint: Path) -> Any:
    """The network on the GPU in fp16 and channels_last, for `torch_run`."""
    import torch

    from fashion_infer.training.checkpoint import load_checkpoint
    from fashion_infer.training.model import Deployed

    torch.cuda.init()  # fails before the checkpoint is read if there is no GPU
    network, spec = load_checkpoint(checkpoint)
    mean, std = network.mean.cuda(), network.std.cuda()
    network = network.cuda().half().to(memory_format=torch.channels_last)
    network.mean, network.std = mean, std  # pixels are normalised in float32, as in the engine
    network.backbone.register_forward_pre_hook(lambda _, inputs: tuple(x.half() for x in inputs))
    return Deployed(network, spec.temperature).eval()


def torch_run(network: Any, batch: int, *, compiled: bool = False) -> Run:
    """Torch for one size of batch: in a CUDA graph, or compiled with max-autotune.

    Its pictures and outputs go through pinned memory with one wait at the end, as ours do.

    Args:
        network: of `torch_network`.
        batch: images in a call.
        compiled: whether to compile.
    """
    import torch

    from fashion_infer.model_spec import OUTPUT_NAMES

    size = network.model.arch.image_size
    host = torch.zeros(batch, size, size, 3, dtype=torch.uint8).pin_memory()
    device = host.cuda()
    # max-autotune makes graphs of its own
    deployed = torch.compile(network, mode="max-autotune", dynamic=False) if compiled else network
    with torch.inference_mode():
        results = [torch.empty(out.shape, dtype=out.dtype, pin_memory=True) for out in deployed(device)]

    @torch.inference_mode()
    def step() -> None:
        device.copy_(host, non_blocking=True)
        for result, out in zip(results, deployed(device), strict=True):
            result.copy_(out, non_blocking=True)

    replay = step if compiled else capture(step).replay
    for _ in range(3):
        replay()

    def once(pixels: Pixels) -> list[NDArray[np.float32]]:
        torch.cuda.synchronize()
        host[: len(pixels)].numpy()[...] = pixels
        replay()
        torch.cuda.synchronize()
        return [result[: len(pixels)].numpy().copy() for result in results]

    def run(pixels: Pixels) -> Outputs:
        parts = [once(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        return {
            name: np.concatenate(values) for name, values in zip(OUTPUT_NAMES, zip(*parts, strict=True), strict=True)
        }

    return run


def measure_ceiling() -> float:
    """TFLOP/s of a large fp16 matrix product, the best of many: what a network is measured against."""
    import torch

    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.float16) for _ in range(2))
    seconds = []
    for _ in range(30):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return float(2 * side**3 / min(seconds) / 1e12)


def count_flops(checkpoint: Path) -> float:
    """Floating point operations of one image, two for each multiplication with its addition."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fashion_infer.training.checkpoint import load_checkpoint

    network, spec = load_checkpoint(checkpoint)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, spec.image_size, spec.image_size, 3, dtype=torch.uint8))
    return float(counter.get_total_flops())


def random_network(backbone: str, folder: Path) -> Path:
    """A checkpoint of the paper's sizes with random weights: as fast as a trained one."""
    import torch

    from fashion_infer.model_spec import ModelSpec
    from fashion_infer.training.checkpoint import save_checkpoint
    from fashion_infer.training.model import Architecture, FashionNet

    torch.manual_seed(0)
    network = FashionNet(Architecture(backbone, IMAGE_SIZE, 50, 1000))
    categories, attributes = (
        tuple(f"{kind}{i}" for i in range(n)) for kind, n in (("category", 50), ("attribute", 1000))
    )
    path = folder / f"{backbone}.safetensors"
    save_checkpoint(
        path, network, ModelSpec(backbone, IMAGE_SIZE, categories, attributes, ("none",) * 1000, 256, False, "")
    )
    return path
