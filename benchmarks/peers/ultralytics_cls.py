"""Peer 5: Ultralytics' classification predictor on its own ONNX export of a backbone of like cost."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import ultralytics
from ultralytics import YOLO
from worker import Peer, Source, serve

BACKBONE = "yolo11n-cls"  # half the multiplications of a light FashionNet at 224 px: in this peer's favour


def load(options: dict[str, Any]) -> Peer:
    """Options: folder, where the exported model is kept; size S. Its weights are random: nothing is downloaded."""
    exported = Path(options["folder"]) / f"{BACKBONE}.onnx"
    if not exported.is_file():
        written = YOLO(f"{BACKBONE}.yaml", task="classify").export(format="onnx", imgsz=options["size"])
        Path(written).replace(exported)
    model = YOLO(exported, task="classify")

    def one(source: Source) -> Any:
        image = source if isinstance(source, str) else source[:, :, ::-1]  # arrays are BGR there
        return model.predict(image, imgsz=options["size"], verbose=False)[0].probs.data.tolist()

    def many(paths: list[str]) -> int:
        return sum(1 for _ in model.predict(paths, imgsz=options["size"], verbose=False, stream=True))

    notes = {"ultralytics": ultralytics.__version__, "onnxruntime": ort.__version__, "backbone": BACKBONE}
    return Peer(one, many, notes)


if __name__ == "__main__":
    serve(load)
