"""The Gallery as a user calls it, with rendered photos, a real model and real files."""

import io
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from fashion_infer import Predictor
from fashion_infer.errors import FashionInferError, GalleryError, GalleryMismatchError, ImageError, UsageError
from fashion_infer.gallery import Gallery
from fashion_infer.gallery.photos import Photo
from fashion_infer.model_spec import ModelSpec


@pytest.fixture
def gallery(place: str, predictor: Predictor) -> Iterator[Gallery]:
    with Gallery(place, predictor) as opened:
        yield opened


def test_a_photo_is_found_again(gallery: Gallery, photos: list[str]) -> None:
    report = gallery.add(photos)
    assert (report.added, len(gallery)) == (24, 24)
    assert [outcome.id for outcome in report.outcomes] == photos
    hits = gallery.search(photos[3], limit=5)
    assert hits[0].id == hits[0].image == photos[3]
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].why["differs"] == []
    assert (hits.searched, len(hits)) == (24, 5)
    assert hits.exact == (not gallery.place.startswith("http"))


def test_a_prediction_is_a_query_too(gallery: Gallery, photos: list[str], predictor: Predictor) -> None:
    gallery.add(photos)
    hits = gallery.search(predictor.predict(photos[3]), limit=5)
    assert [(hit.id, hit.why) for hit in hits] == [(hit.id, hit.why) for hit in gallery.search(photos[3], limit=5)]
    failed = predictor.predict([__file__])[0]
    with pytest.raises(ImageError):
        gallery.search(failed)
    good, bad = gallery.search([predictor.predict(photos[3]), failed], limit=5)
    assert [hit.id for hit in good] == [hit.id for hit in hits]
    assert isinstance(bad.error, ImageError)
    with pytest.raises(UsageError, match="a box goes with one photo"):
        gallery.search(predictor.predict(photos[3]), box=[0, 0, 9, 9])


def test_photos_are_found_by_colour(gallery: Gallery, photos: list[str], predictor: Predictor) -> None:
    gallery.add(photos)
    colors = {str(prediction.image): prediction.to_dict()["colors"] for prediction in predictor.stream(photos)}
    first = gallery.search(photos[0], limit=1)[0]
    assert first.payload["colors"] == colors[photos[0]]
    name = first.payload["colors"][0]["name"]
    assert any(words.startswith("color: ") and name in words for words in first.why["same"])
    for where in (f"colors='{name}'", {"colors": name}, {"colors": [name, "no such colour"]}):
        hits = gallery.search(photos[0], limit=50, where=where)
        assert {hit.id for hit in hits} == {p for p in photos if name in [color["name"] for color in colors[p]]}
    assert gallery.search(photos[0], where="colors=null") == []
    gallery.add(photos)  # unchanged
    assert gallery.search(photos[0], limit=1)[0].payload["colors"] == colors[photos[0]]


def test_a_row_without_colours_of_an_earlier_release(
    gallery: Gallery, photos: list[str], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("fashion_infer.gallery.rows.colors_of", lambda _: None)
        gallery.add(photos[:2])
    gallery.add(photos[2:4])
    hits = gallery.search(photos[0], limit=4)
    assert {hit.id for hit in hits if "colors" not in hit.payload} == set(photos[:2])
    assert not any("color" in words for hit in hits[:1] for group in hit.why.values() for words in group)
    assert {hit.id for hit in gallery.search(photos[0], where="colors=null")} == set(photos[:2])
    assert len(list(gallery.rebuilding(predictor))) == 4  # with the same model
    assert gallery.search(photos[0], where="colors=null") == []


def test_what_is_unchanged_is_skipped(gallery: Gallery, photos: list[str], predictor: Predictor) -> None:
    gallery.add(photos)
    before = gallery.get(photos[0])
    report = gallery.add(photos)
    assert report.unchanged == 24
    assert repr(report) == "AddReport(unchanged=24)"
    after = gallery.get(photos[0])
    assert before is not None and after is not None
    assert np.array_equal(before.vector, after.vector)


def test_a_changed_photo_is_replaced(gallery: Gallery, photos: list[str], tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.open(photos[0]).save(file)
    gallery.add([file, *photos[1:3]])
    Image.open(photos[5]).save(file)
    report = gallery.add([file, *photos[1:3]])
    assert [outcome.status for outcome in report.outcomes] == ["replaced", "unchanged", "unchanged"]
    assert len(gallery) == 3
    assert gallery.search(photos[5])[0].id == str(file)


def test_columns_of_the_users_own(gallery: Gallery, photos: list[str]) -> None:
    payloads = [
        {"item": f"i{n // 4}", "price": n * 2.5, "new": n % 2 == 0, "since": date(2024, 1, n + 1)} for n in range(24)
    ]
    gallery.add(photos, payloads=payloads)
    assert gallery.columns == {"item": "text", "price": "float", "new": "bool", "since": "date"}
    hits = gallery.search(photos[0], where="price<=10 and new=true", limit=50)
    assert {hit.payload["price"] for hit in hits} == {0.0, 5.0, 10.0}
    hits = gallery.search(photos[0], where={"since": {"gt": date(2024, 1, 20)}}, limit=50)
    assert len(hits) == 4
    assert hits[0].payload["since"] > date(2024, 1, 20)
    # with other columns for the same photos no network is needed, and payloads=None keeps the stored columns
    assert gallery.add(photos, payloads=[{"item": "x"}] * 24).replaced == 24
    assert gallery.add(photos).unchanged == 24
    assert gallery.search(photos[0])[0].payload["item"] == "x"
    assert "price" not in gallery.search(photos[0])[0].payload


def test_several_garments_of_a_photo(gallery: Gallery, photos: list[str]) -> None:
    boxes = [[[0, 0, 100, 100], [500, 500, 600, 600], [50, 50, 200, 250]], None]
    report = gallery.add(photos[:2], boxes=boxes)
    first, second, third, whole = report.outcomes
    assert [first.status, second.status, third.status, whole.status] == ["added", "failed", "added", "added"]
    assert (first.id, third.id, whole.id) == (f"{photos[0]}#1", f"{photos[0]}#3", photos[1])
    assert photos[0] in str(second.error) and "no area inside" in str(second.error)
    row = gallery.get(third.id)
    assert row is not None
    assert row.box == (50, 50, 200, 250)
    # the row of the whole photo replaces those of its boxes
    assert gallery.add(photos[:1]).added == 1
    assert gallery.get(third.id) is None
    assert len(gallery) == 2


def test_bad_images_fail_alone(gallery: Gallery, photos: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no jpeg")
    report = gallery.add(
        [photos[0], broken, "missing.jpg", photos[1], np.zeros((4, 4, 7), np.uint8)], ids=["a", "b", "c", "d", "e"]
    )
    assert [outcome.status for outcome in report.outcomes] == ["added", "failed", "failed", "added", "failed"]
    assert all(isinstance(outcome.error, ImageError) for outcome in report.failed)
    assert str(broken) in str(report.failed[0].error)
    assert "missing.jpg cannot be read" in str(report.failed[1].error)
    assert len(gallery) == 2


def test_a_photo_that_breaks_keeps_its_old_row(gallery: Gallery, photos: list[str], tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.open(photos[0]).save(file)
    gallery.add([file])
    file.write_bytes(b"broken")
    assert len(gallery.add([file]).failed) == 1
    assert gallery.get(str(file)) is not None


def test_invalid_ids_are_refused(gallery: Gallery, photos: list[str]) -> None:
    report = gallery.add([photos[0], photos[1], photos[2]], ids=["a", "a", ""])
    assert [outcome.status for outcome in report.outcomes] == ["added", "failed", "failed"]
    assert "'a' occurs twice in the same call" in str(report.failed[0].error)
    assert "needs an id" in str(gallery.add([np.zeros((9, 9, 3), np.uint8)]).failed[0].error)
    assert str(gallery.add([io.BytesIO(b"")], ids=["sku-1"]).failed[0].error) == "sku-1 is empty"
    with pytest.raises(UsageError, match="equally many"):
        gallery.add(photos[:3], ids=["a", "b"])
    assert len(gallery) == 2  # the rows that were added before the error are kept


def test_images_of_every_kind(gallery: Gallery, photos: list[str]) -> None:
    picture = Image.open(photos[0]).convert("RGB")
    with Path(photos[0]).open("rb") as file:
        report = gallery.add(
            [Path(photos[0]), Path(photos[0]).read_bytes(), picture, np.asarray(picture), file], ids=list("abcde")
        )
    assert report.added == 5
    hits = gallery.search(np.asarray(picture), limit=5)
    assert [hit.id for hit in hits] == list("abcde")  # equal scores are ordered by id
    assert len({gallery.get(id).content_hash for id in "abe"}) == 1  # type: ignore[union-attr]
    assert hits[1].image is None


def test_a_payload_that_cannot_be_kept_fails_alone(gallery: Gallery, photos: list[str]) -> None:
    payloads = [{"price": 1}, {"price": "cheap"}, {"category": "x"}, {"price": 2.5}]
    report = gallery.add(photos[:4], payloads=payloads)
    assert [outcome.status for outcome in report.outcomes] == ["added", "failed", "failed", "added"]
    assert "'price' holds values of kind int, and now one of kind text" in str(report.failed[0].error)
    assert gallery.columns == {"price": "float"}


def test_a_path_that_is_not_utf_8(gallery: Gallery, photos: list[str], tmp_path: Path) -> None:
    file = Path(str(tmp_path).encode().decode() + "/caf\udce9 %41.png")
    file.write_bytes(Path(photos[0]).read_bytes())
    report = gallery.add([file])
    assert report.outcomes[0].id == f"{tmp_path}/caf%E9 %2541.png"
    assert gallery.search(photos[0])[0].image == f"{tmp_path}/caf%E9 %2541.png"
    assert gallery.add([file]).unchanged == 1


def test_an_embedding_with_a_nan_never_enters(
    gallery: Gallery, photos: list[str], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = predictor.predict(photos[0])
    spoilt.embedding[2] = np.nan
    from fashion_infer.gallery import photos as photos_module

    def recognised(_: Predictor, photos: Iterator[Photo]) -> Iterator[object]:
        return ((photo, [spoilt]) for photo in photos)

    monkeypatch.setattr("fashion_infer.gallery.adding.recognised", recognised)
    assert photos_module.recognised is not recognised
    report = gallery.add(photos[:1])
    assert "not of unit length" in str(report.failed[0].error)
    assert len(gallery) == 0


def test_long_runs_of_unchanged_photos(gallery: Gallery, photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fashion_infer.gallery.adding.SKIPPED_IN_A_ROW", 3)
    gallery.add(photos[:10])
    report = gallery.add([*photos[:5], photos[20], *photos[5:10], photos[21]])
    assert [outcome.status for outcome in report.outcomes] == ["unchanged"] * 5 + ["added"] + ["unchanged"] * 5 + [
        "added"
    ]


def test_what_was_computed_is_kept_when_the_source_breaks_off(gallery: Gallery, photos: list[str]) -> None:
    def breaking() -> Iterator[str]:
        yield from photos[:5]
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="the camera is gone"):
        gallery.add(breaking())
    assert len(gallery) == 5


def test_removing(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    assert gallery.remove(photos[3]) == 1
    assert gallery.remove([photos[3], photos[4], "nothing"]) == 1
    assert len(gallery) == 22
    assert gallery.get(photos[3]) is None
    assert photos[3] not in [hit.id for hit in gallery.search(photos[3], limit=30)]


def test_queries_of_every_kind(gallery: Gallery, photos: list[str], predictor: Predictor) -> None:
    gallery.add(photos)
    assert gallery.search(photos[2], box=[0, 0, 100, 100]).box == (0, 0, 100, 100)
    by_id = gallery.search(ids=photos[2])
    assert photos[2] not in [hit.id for hit in by_id]
    assert by_id[0].why["same"]
    assert [hits[0].id for hits in gallery.search([photos[1], photos[2]])] == photos[1:3]
    embedding = predictor.predict(photos[2]).embedding
    assert gallery.search(vectors=embedding)[0].id == photos[2]
    several = gallery.search(vectors=np.stack([3 * embedding, embedding]))
    assert [hits[0].id for hits in several] == [photos[2]] * 2
    assert several[0][0].why == {"same": [], "differs": []}
    together = gallery.search([photos[1], photos[2]], together=True)
    mean = predictor.predict(photos[1]).embedding + embedding
    assert [hit.id for hit in together] == [hit.id for hit in gallery.search(vectors=mean)]


def test_bad_queries_stay_in_their_place(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    good, bad = gallery.search([photos[0], "missing.jpg"])
    assert (good.error, len(bad)) == (None, 0)
    assert isinstance(bad.error, ImageError)
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        gallery.search("missing.jpg")
    with pytest.raises(GalleryError, match="no row 'nothing'"):
        gallery.search(ids="nothing")
    assert isinstance(gallery.search(ids=["nothing"])[0].error, GalleryError)
    assert isinstance(gallery.search(vectors=np.zeros((1, 8)))[0].error, UsageError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give a query"),
        ({"ids": "a", "vectors": np.zeros(8)}, "only one of images, ids and vectors"),
        ({"vectors": np.zeros(7)}, r"vectors must be \[N, 8\] or \[8\], got \[7\]"),
        ({"vectors": np.ones(8), "box": [0, 0, 1, 1]}, "a box goes with one photo"),
        ({"vectors": np.ones(8), "limit": 0}, "limit must be a whole number of at least 1"),
        ({"vectors": np.ones(8), "offset": -1}, "offset must be a whole number of at least 0"),
        ({"vectors": np.ones(8), "diversity": 2}, "diversity must be a number of at least 0 and at most 1"),
        ({"vectors": np.ones(8), "min_score": np.nan}, "min_score must be a number, got nan"),
        ({"vectors": np.ones(8), "limit": 2.5}, "limit must be a whole number of at least 1, got 2.5"),
        ({"vectors": np.ones(8), "group_by": ["item"]}, "group_by must be the name of one column"),
        ({"vectors": np.ones(8) * 1j}, "vectors must be of real numbers, got complex128"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "vectors must be an array of numbers"),
        ({"vectors": np.ones(8), "where": "price<3"}, "no column 'price'; it has attributes, category"),
        ({"vectors": np.ones(8), "group_by": "item"}, "no column 'item' to group by"),
    ],
)
def test_invalid_searches_are_refused(gallery: Gallery, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gallery.search(**options)  # type: ignore[call-overload]


def test_an_empty_gallery(gallery: Gallery, photos: list[str]) -> None:
    hits = gallery.search(photos[0])
    assert (list(hits), hits.searched) == ([], 0)
    assert len(gallery.search([photos[0], photos[1]])) == 2
    assert gallery.search(photos[0], diversity=0.5) == []


def test_more_than_there_is(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos[:5])
    assert len(gallery.search(photos[0], limit=100)) == 5
    assert gallery.search(photos[0], offset=5) == []


def test_a_page_in_numbers_of_8_bits(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    options: dict[str, Any] = {"limit": np.uint8(255), "offset": np.uint8(2)}  # together beyond 8 bits
    assert len(gallery.search(photos[0], **options)) == len(photos) - 2


def test_pages_and_min_score(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    whole = gallery.search(photos[0], limit=20)
    pages = [hit.id for offset in range(0, 20, 5) for hit in gallery.search(photos[0], limit=5, offset=offset)]
    assert pages == [hit.id for hit in whole]
    level = whole[3].score
    cut = gallery.search(photos[0], limit=20, min_score=level)
    assert [hit.id for hit in cut] == [hit.id for hit in whole if hit.score >= level]
    assert cut.dropped == 20 - len(cut)


def test_groups(gallery: Gallery, photos: list[str]) -> None:
    payloads = [{"item": f"i{n % 6}", "price": n} if n else {} for n in range(24)]
    gallery.add(photos, payloads=payloads)
    every = gallery.search(photos[0], limit=24)
    expected: list[str] = []
    groups: set[str] = set()
    for hit in every:
        group = hit.item or hit.id
        if group not in groups:
            groups.add(group)
            expected.append(hit.id)
    hits = gallery.search(photos[0], limit=7, group_by="item")
    assert [hit.id for hit in hits] == expected
    assert {hit.item: hit.views for hit in hits} == {None: 1, "i0": 3, **{f"i{n}": 4 for n in range(1, 6)}}
    paged = [
        hit.id for offset in (0, 3, 6) for hit in gallery.search(photos[0], limit=3, offset=offset, group_by="item")
    ]
    assert paged == expected
    few = gallery.search(photos[0], limit=9, group_by="item", where="price<8")
    assert {hit.item: hit.views for hit in few} == {f"i{n}": 1 + (0 < n < 2) for n in range(6)}


def test_diversity(gallery: Gallery, photos: list[str]) -> None:
    gallery.add([*photos, *photos], ids=[f"{n}" for n in range(48)])  # each twice
    alike = gallery.search(photos[0], limit=6)
    assert alike[0].score == alike[1].score
    apart = gallery.search(photos[0], limit=6, diversity=1)
    assert len({gallery.get(hit.id).content_hash for hit in apart}) == 6  # type: ignore[union-attr]
    assert apart[0].id == alike[0].id


def test_like_and_unlike(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    rows = {photo: gallery.get(photo).vector.astype(np.float64) for photo in photos}  # type: ignore[union-attr]
    hits = gallery.search(photos[0], like=[photos[1]], unlike=[photos[2]], limit=3)
    query = rows[photos[0]] + 0.75 * rows[photos[1]] - 0.15 * rows[photos[2]]
    scores = {photo: float(v @ query / np.linalg.norm(query)) for photo, v in rows.items() if photo not in photos[1:3]}
    assert [hit.id for hit in hits] == sorted(scores, key=lambda photo: -scores[photo])[:3]
    assert hits[0].score == pytest.approx(max(scores.values()), abs=1e-3)
    only = gallery.search(like=[photos[1]])
    assert only[0].id == gallery.search(ids=photos[1])[0].id
    with pytest.raises(GalleryError, match="no row 'nothing'"):
        gallery.search(photos[0], unlike=["nothing"])


def test_without_a_predictor(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos)
    with Gallery(gallery.place) as reader:
        assert reader.search(ids=photos[0])[0].id == gallery.search(ids=photos[0])[0].id
        with pytest.raises(UsageError, match="open the gallery with a predictor"):
            reader.search(photos[0])
        with pytest.raises(UsageError, match="open the gallery with a predictor"):
            reader.add(photos)
        assert reader.remove(photos[0]) == 1
    assert len(gallery) == 23


def test_a_model_of_another_space_is_refused(
    gallery: Gallery, photos: list[str], with_spec: Callable[[ModelSpec], Path], predictor: Predictor
) -> None:
    import dataclasses

    gallery.add(photos[:2])
    other = with_spec(dataclasses.replace(predictor.spec, embedding_sha256="f" * 64))
    with Predictor(other) as stranger, pytest.raises(GalleryMismatchError) as error:
        Gallery(gallery.place, stranger)
    assert str(predictor.path) in str(error.value) and str(other) in str(error.value)
    assert f"fashion-infer index {gallery.place} --rebuild {other}" in str(error.value)
    same = with_spec(dataclasses.replace(predictor.spec, threshold=0.1))
    with Predictor(same) as relative, Gallery(gallery.place, relative) as opened:
        assert len(opened.search(photos[0])) == 2


def test_a_query_without_a_garment_is_warned_of(
    tmp_path: Path,
    with_spec: Callable[[ModelSpec], Path],
    predictor: Predictor,
    caplog: pytest.LogCaptureFixture,
    photos: list[str],
) -> None:
    import dataclasses

    doubtful = with_spec(dataclasses.replace(predictor.spec, garment_weights=(0.0,) * 8, garment_bias=-3.0))
    with Predictor(doubtful) as model, Gallery(tmp_path / "g", model) as opened:
        opened.search(photos[0])
    assert f"there may be no garment in {photos[0]}" in caplog.text


def test_sources_that_change_after_they_were_yielded(gallery: Gallery, photos: list[str], predictor: Predictor) -> None:
    pictures = [np.asarray(Image.open(photo).convert("RGB").resize((64, 64))) for photo in photos[:6]]

    def reused() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        buffer = np.empty_like(pictures[0])
        for picture in pictures:
            buffer[:] = picture
            yield buffer

    def closed_afterwards() -> Iterator[BinaryIO]:
        for photo in photos[:6]:
            with Path(photo).open("rb") as file:
                yield file

    gallery.add(reused(), ids=[f"array {n}" for n in range(6)])
    assert gallery.add(closed_afterwards(), ids=[f"file {n}" for n in range(6)]).failed == []
    for n, (picture, photo) in enumerate(zip(pictures, photos, strict=False)):
        for id, source in ((f"array {n}", picture), (f"file {n}", photo)):
            row = gallery.get(id)
            assert row is not None
            assert row.vector @ predictor.predict(source).embedding > 0.999


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("payloads", ["price", 3]),
        ("payloads", {"\udcff": 1}),
        ("payloads", {"note": "\ud800"}),
        ("payloads", {"note": "a\0b"}),
        ("payloads", {"day": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}),
        ("boxes", 5),
        ("boxes", [[10**400, 0, 1, 1]]),
        ("ids", float("nan")),
        ("ids", "\ud800"),
        ("images", Image.open(io.BytesIO(b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02"))),
    ],
)
def test_one_bad_argument_spoils_no_other(gallery: Gallery, photos: list[str], argument: str, bad: object) -> None:
    arguments: dict[str, Any] = {"images": photos[:3], "ids": list("abc"), "payloads": [{}] * 3, "boxes": [None] * 3}
    arguments[argument] = [arguments[argument][0], bad, arguments[argument][2]]
    outcomes = gallery.add(**arguments).outcomes
    assert [outcome.status for outcome in outcomes] == ["added", "failed", "added"]
    assert isinstance(outcomes[1].error, FashionInferError)


def test_a_bad_box_spoils_no_other_box(gallery: Gallery, photos: list[str]) -> None:
    report = gallery.add([photos[0]], boxes=[[[0, 0, 50, 50], "box", [9, 9, 60, 60]]])
    assert [outcome.status for outcome in report.outcomes] == ["added", "failed", "added"]
    assert gallery.add([photos[0]], boxes=[[]]).outcomes == []
    assert len(gallery) == 0


@pytest.mark.parametrize(
    "arguments",
    [{"images": "a.jpg"}, {"images": b"bytes"}, {"images": np.zeros((9, 9, 3), np.uint8)}, {"images": None}]
    + [{"images": io.BytesIO(b"bytes")}]
    + [{"images": ["a.jpg"], **one} for one in ({"ids": "a"}, {"payloads": {"price": 3}}, {"boxes": "a"})],
    ids=lambda arguments: ", ".join(arguments),
)
def test_one_thing_where_several_are_meant(gallery: Gallery, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be an iterable of several, not one"):
        gallery.add(**arguments)


def test_ids_that_are_no_texts(gallery: Gallery, photos: list[str]) -> None:
    gallery.add(photos[:2], ids=[7, "\udcff"])  # type: ignore[list-item]
    assert gallery.get(7) is not None  # type: ignore[arg-type]
    assert gallery.get("\udcff") is not None
    assert gallery.search(like="7")[0].id == "%FF"
    with pytest.raises(UsageError, match="an id must be a text, got a list"):
        gallery.get(["7"])  # type: ignore[arg-type]
    assert gallery.search(ids=7, limit=1)[0].id == "%FF"
    assert gallery.search(ids=Path("7"), limit=1)[0].id == "%FF"
    assert gallery.remove("\udcff") == 1
    assert gallery.remove(7) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Größe", "💥", "a\\b", "a\nb", "[red]", "or", "a.b", " "])
def test_a_column_of_any_name_is_filtered_by(gallery: Gallery, photos: list[str], name: str) -> None:
    gallery.add(photos[:3], payloads=[{name: value} for value in ("é", "M", "L")])
    assert [hit.id for hit in gallery.search(photos[0], where={name: "é"})] == [photos[0]]
    assert len(gallery.search(photos[0], where={name: {"in": ["é", "L"]}})) == 2


def test_a_name_of_a_model_is_no_predictor(place: str) -> None:
    with pytest.raises(TypeError, match="predictor must be a Predictor, not a str"):
        Gallery(place, "fashionnet-lite")  # type: ignore[arg-type]
