"""Peer 3: cv2, float preprocessing in numpy and one ONNX Runtime call an image, as rtmlib's models do it."""

from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from worker import Peer, Source, serve


def load(options: dict[str, Any]) -> Peer:
    """Options: model, an .onnx file with a float [N, 3, S, S] input; mean and std of each channel; size S."""
    session = ort.InferenceSession(options["model"], providers=["CPUExecutionProvider"])
    mean, std, size = np.array(options["mean"]), np.array(options["std"]), options["size"]
    name = session.get_inputs()[0].name

    def one(source: Source) -> Any:
        image = cv2.imread(source) if isinstance(source, str) else source[:, :, ::-1]
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)[:, :, ::-1]
        image = (image - mean) / std
        batch = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)[None]
        return session.run(None, {name: batch})[0][0]

    return Peer(one, lambda paths: sum(1 for path in paths if one(path) is not None), {"onnxruntime": ort.__version__})


if __name__ == "__main__":
    serve(load)
