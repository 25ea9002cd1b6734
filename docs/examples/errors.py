"""Errors, and the pages about them."""

# --8<-- [start:show]
from fashion_infer import FashionInferError, Predictor

with Predictor("fashionnet-lite") as predictor:
    try:
        predictor.predict("missing.jpg")
    except FashionInferError as error:
        print(error, error.help_url)

    for prediction in predictor.predict(["photo.jpg", "missing.jpg"]):
        print(prediction.image, prediction.error or prediction.category.name)
# --8<-- [end:show]

assert prediction.error is not None
assert prediction.error.help_url.endswith("/errors/ImageError/")
assert prediction.error.exit_code == 4
