"""Boxes of a detector, and back into supervision."""

# --8<-- [start:show]
import numpy as np
import supervision as sv
from PIL import Image

from fashion_infer import Predictor, to_detections, to_keypoints

photo = Image.open("photo.jpg")

# From a YOLO of Ultralytics, this line reads: sv.Detections.from_ultralytics(YOLO("yolo11n.pt")(photo)[0])
persons = sv.Detections(xyxy=np.array([[40.0, 60.0, 300.0, 500.0], [250.0, 80.0, 560.0, 590.0]]))

with Predictor("fashionnet-lite") as predictor:
    predictions = predictor.predict(photo, boxes=persons.xyxy)
    garments = to_detections(predictions, predictor.spec)
    landmarks = to_keypoints(predictions, predictor.spec)

garments = garments[garments.confidence > 0.05]
picture = sv.BoxAnnotator().annotate(np.array(photo), garments)
picture = sv.LabelAnnotator().annotate(picture, garments)
picture = sv.VertexAnnotator(radius=5).annotate(picture, landmarks)
Image.fromarray(picture).save("drawn.jpg")
# --8<-- [end:show]

assert [prediction.box for prediction in predictions] == [tuple(box) for box in persons.xyxy.tolist()]
assert landmarks.xy.shape == (2, 8, 2)
assert set(garments["class_name"]) <= set(predictor.spec.categories)
