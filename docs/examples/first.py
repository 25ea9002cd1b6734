"""The first photo."""

# --8<-- [start:show]
from fashion_infer import Predictor

with Predictor("fashionnet-lite") as predictor:
    prediction = predictor.predict("photo.jpg")

print(prediction.category.name, round(prediction.category.score, 2))
for label in prediction.attributes:
    print(label.group, label.name, round(label.score, 2))
for point in prediction.landmarks:
    if point.visibility == "visible":
        print(point.name, round(point.x), round(point.y))
# --8<-- [end:show]

assert prediction.category.name in predictor.spec.categories
assert all(0 <= label.score <= 1 for label in prediction.attributes)
assert len(prediction.landmarks) == 8
assert prediction.embedding.shape == (256,)
