"""A gallery of one's own folder, and a search in it."""

# --8<-- [start:show]
from pathlib import Path

from fashion_infer import Gallery, Predictor

with Predictor("fashionnet-lite") as predictor, Gallery("wardrobe.gallery", predictor) as gallery:
    report = gallery.add(sorted(Path("photos").glob("*.jpg")))
    print(report)
    for hit in gallery.search("photos/dress.jpg", limit=5, where={"category_score": {"gte": 0.02}}):
        print(round(hit.score, 3), hit.match, hit.id, hit.why["same"])
    hits = gallery.search("photos/dress.jpg", limit=1)
# --8<-- [end:show]

assert hits[0].id == "photos/dress.jpg"
assert hits[0].score > 0.99
