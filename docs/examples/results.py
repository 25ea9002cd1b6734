"""Results as dictionaries, tables and COCO."""

# --8<-- [start:json]
import json
from pathlib import Path

from fashion_infer import Prediction, Predictor, to_coco, to_dataframe

with Predictor("fashionnet-lite") as predictor:
    predictions = predictor.predict(["a.jpg", "b.jpg", "missing.jpg"])
    spec = predictor.spec

lines = [json.dumps(prediction.to_dict()) for prediction in predictions]
again = [Prediction.from_dict(json.loads(line)) for line in lines]
# --8<-- [end:json]
# --8<-- [start:frame]
frame = to_dataframe(predictions)  # pandas; library="polars" gives polars
print(frame[["image", "category", "category_score", "left_collar_x", "error"]])
# --8<-- [end:frame]
# --8<-- [start:coco]
Path("predictions.coco.json").write_text(json.dumps(to_coco(predictions, spec)))
# --8<-- [end:coco]

assert [prediction.image for prediction in again] == ["a.jpg", "b.jpg", "missing.jpg"]
assert again[0].to_dict() == predictions[0].to_dict()
assert type(again[2].error) is type(predictions[2].error)
assert len(frame) == 3
assert len(json.loads(Path("predictions.coco.json").read_text())["annotations"]) == 2
