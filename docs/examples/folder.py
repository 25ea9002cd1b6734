"""A folder of photos, one of which is no photo."""

from pathlib import Path

Path("photos/broken.jpg").write_text("no picture")

# --8<-- [start:show]
from pathlib import Path

from fashion_infer import Predictor, to_dataframe

paths = sorted(Path("photos").glob("*.jpg"))
with Predictor("fashionnet-lite") as predictor:
    frame = to_dataframe(predictor.stream(paths))

print(frame[frame.error.isna()].groupby("category").size().sort_values())
print(frame.loc[frame.error.notna(), ["image", "error"]])
# --8<-- [end:show]

assert len(frame) == len(paths)
assert frame.error.notna().sum() == 1
assert frame.loc[frame.error.notna(), "image"].tolist() == ["photos/broken.jpg"]
Path("photos/broken.jpg").unlink()
