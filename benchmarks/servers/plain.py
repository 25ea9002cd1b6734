"""Peer: FastAPI and ONNX Runtime as they are usually written, one image a call.

python plain.py MODEL.onnx PORT
"""

import json
import sys
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, UploadFile

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
spec = json.loads(session.get_modelmeta().custom_metadata_map["fashion_infer.model_spec"])
app = FastAPI()


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, Any]:
    """Decode, resize, run, name the best five."""
    image = cv2.imdecode(np.frombuffer(file.file.read(), np.uint8), cv2.IMREAD_COLOR)
    size = spec["image_size"]
    pixels = cv2.cvtColor(cv2.resize(image, (size, size)), cv2.COLOR_BGR2RGB)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {"images": pixels[None]}), strict=True))
    best = outputs["category"][0].argsort()[::-1][:5]
    above = (outputs["attributes"][0] > spec["threshold"]).nonzero()[0]
    return {
        "categories": [{"name": spec["categories"][i], "score": float(outputs["category"][0][i])} for i in best],
        "attributes": [{"name": spec["attributes"][i], "score": float(outputs["attributes"][0][i])} for i in above],
        "landmarks": (outputs["landmarks"][0] * [image.shape[1], image.shape[0]]).tolist(),
        "visibility": outputs["visibility"][0].argmax(1).tolist(),
    }


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
