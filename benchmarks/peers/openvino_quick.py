"""Peer 4: OpenVINO as its own quick start shows it, with its own choice of precision and threads."""

from typing import Any

import cv2
import numpy as np
import openvino as ov
from worker import Peer, Source, serve


def load(options: dict[str, Any]) -> Peer:
    """Options: model, an .onnx file with a uint8 [N, S, S, 3] input and no local functions; size S."""
    core, size = ov.Core(), options["size"]
    model = core.read_model(options["model"])
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    busy: list[ov.CompiledModel] = []  # compiled when it is first needed: a server compiles one of the two

    def prepare(source: Source) -> np.ndarray:
        image = cv2.cvtColor(cv2.imread(source), cv2.COLOR_BGR2RGB) if isinstance(source, str) else source
        return cv2.resize(image, (size, size))[None]

    def one(source: Source) -> Any:
        return compiled(prepare(source))[0][0]

    def many(paths: list[str]) -> int:
        if not busy:
            busy.append(core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"}))
        done: list[int] = []
        queue = ov.AsyncInferQueue(busy[0])
        queue.set_callback(lambda request, index: done.append(index))
        for index, path in enumerate(paths):
            queue.start_async(prepare(path), index)
        queue.wait_all()
        return len(done)

    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return Peer(one, many, {"openvino": ov.__version__, "precision": precision})


if __name__ == "__main__":
    serve(load)
