"""Peers 1 and 2: Pillow, torchvision's resize and the network in torch, eager or compiled."""

from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import Resize
from worker import Peer, Source, serve

from fashion_infer.training.checkpoint import load_checkpoint
from fashion_infer.training.model import Deployed

BATCH = 8


def load(options: dict[str, Any]) -> Peer:
    """Options: checkpoint, and `compile` to compile the network."""
    network, spec = load_checkpoint(options["checkpoint"])
    model: Any = Deployed(network, spec.temperature).eval()
    if options["compile"]:
        model = torch.compile(model, dynamic=False)  # once for each of the two batch sizes
    resize = Resize((spec.image_size, spec.image_size))

    def prepare(source: Source) -> torch.Tensor:
        image = Image.open(source) if isinstance(source, str) else Image.fromarray(source)
        return torch.from_numpy(np.array(resize(image.convert("RGB"))))

    @torch.inference_mode()
    def one(source: Source) -> Any:
        return model(prepare(source)[None])[0][0].tolist()

    @torch.inference_mode()
    def many(paths: list[str]) -> int:
        loader = DataLoader(_Files(paths, prepare), BATCH, num_workers=torch.get_num_threads())
        return sum(len(model(batch)[0]) for batch in loader)

    if options["compile"]:
        with torch.inference_mode():
            model(torch.zeros(BATCH, spec.image_size, spec.image_size, 3, dtype=torch.uint8))
    notes = {"torch": torch.__version__, "torchvision": torchvision.__version__, "threads": torch.get_num_threads()}
    return Peer(one, many, notes)


class _Files(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, paths: list[str], prepare: Any) -> None:
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.prepare(self.paths[index])


if __name__ == "__main__":
    serve(load)
