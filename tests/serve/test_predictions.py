"""The endpoints for photos: predict and search."""

import json

import pytest

from fashion_infer import Predictor

BOUNDARY = "----a-boundary"


def form(image: bytes | None, **fields: str) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()
    ]
    if image is not None:
        head = 'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg'
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + image + b"\r\n")
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


FORM = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.fixture(scope="module")
def expected(model, photo):
    """The predictions of a separate Predictor for the photo, without times."""
    with Predictor(model, threads=1) as predictor:
        whole = predictor.predict(photo).to_dict(embedding=True)
        (alone,) = predictor.predict(photo, boxes=[[20, 30, 200, 220]])
        beside, _ = predictor.predict(photo, boxes=[[20, 30, 200, 220], [900, 900, 990, 990]])
    return without_times(whole), without_times(alone.to_dict()), without_times(beside.to_dict())


def without_times(described):
    return {name: value for name, value in described.items() if name != "timing_ms"}


def approximately(described, expected):
    """Check that two JSON values are equal to 3 digits; another batch size changes the digits after them."""
    assert json.loads(json.dumps(described), parse_float=lambda text: round(float(text), 3)) == json.loads(
        json.dumps(expected), parse_float=lambda text: round(float(text), 3)
    )


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "IMAGE/PNG; q=1"])
def test_the_response_equals_the_predictors_result(server, photo, expected, kind) -> None:
    answer = server.post("/v1/predict?embedding=true", photo, kind)
    assert answer.status == 200, answer.body
    approximately(without_times(answer.json()), expected[0])
    assert set(answer.json()["timing_ms"]) == {"decode", "preprocess", "queue", "compute", "post"}


def test_boxes_give_a_list_with_each_bad_one_in_its_place(server, photo, expected) -> None:
    answer = server.post("/v1/predict?boxes=[[20,30,200,220],[900,900,990,990]]", photo)
    assert answer.status == 200, answer.body
    good, bad = answer.json()
    approximately(without_times(good), expected[2])
    assert bad["error"]["type"] == "ImageError"
    assert server.post("/v1/predict?boxes=[]", photo).json() == []


def test_a_form_holds_image_and_parameters(server, photo, expected) -> None:
    answer = server.post("/v1/predict", form(photo, boxes="[[20,30,200,220]]"), FORM)
    assert answer.status == 200, answer.body
    approximately(without_times(answer.json()[0]), expected[1])


@pytest.mark.parametrize(
    ("body", "kind", "status", "name"),
    [
        (b"this is no image", "image/jpeg", 422, "ImageError"),
        (b"", "image/jpeg", 422, "ImageError"),
        (b"{}", "application/json", 415, "ContentTypeError"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "ContentTypeError"),
        (b"no form", FORM, 400, "FormError"),
        (b"no form", "multipart/form-data", 400, "FormError"),
        (form(None, boxes="[]"), FORM, 422, "FormError"),
        (form(b"no image"), FORM, 422, "ImageError"),
    ],
)
def test_an_unusable_body_gives_a_problem_document(server, body, kind, status, name) -> None:
    answer = server.post("/v1/predict", body, kind, X_Request_Id="abc-1")
    assert (answer.status, answer.json()["name"]) == (status, name), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:fashion-infer:{name}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize(
    "boxes", ["1", "[[1,2,3]]", "no", "[[1,2,3,%22a%22]]", json.dumps([[0, 0, 9, 9]] * 65).replace(" ", "")]
)
def test_malformed_boxes_are_refused(server, photo, boxes) -> None:
    answer = server.post(f"/v1/predict?boxes={boxes}", photo)
    assert (answer.status, answer.json()["name"]) == (422, "UsageError")


def test_searching_by_a_photo_and_by_boxes(server, shop, model, photo) -> None:
    answer = server.post("/v1/search?limit=5&where=price%3C%3D100", photo)
    assert answer.status == 200, answer.body
    (query,) = answer.json()["objects"]
    assert len(query["hits"]) == 5
    assert all(hit["payload"]["price"] <= 100 for hit in query["hits"])
    assert set(query["hits"][0]["why"]) == {"same", "differs"}
    assert answer.json()["searched"] >= 11
    two = server.post("/v1/search?boxes=[[0,0,200,200],[900,900,901,901]]", photo).json()["objects"]
    assert two[0]["hits"]
    assert two[1]["error"]["type"] == "ImageError"


@pytest.mark.parametrize(
    "query", ["where=nothing%3D%3D1", "where=colour%3D1", "limit=0", "limit=9999", "diversity=2", "limit=x"]
)
def test_malformed_search_options_are_refused(server, photo, query) -> None:
    answer = server.post(f"/v1/search?{query}", photo)
    assert (answer.status, answer.json()["name"]) == (422, "UsageError"), answer.body


def test_a_bad_photo_cannot_be_searched_by(server) -> None:
    answer = server.post("/v1/search", b"no image")
    assert (answer.status, answer.json()["name"]) == (422, "ImageError")


def test_without_a_gallery(start, photo) -> None:
    server = start()
    for method, path in (("POST", "/v1/search"), ("POST", "/v1/items"), ("GET", "/v1/items/a"), ("GET", "/v1/gallery")):
        answer = server.ask(method, path, photo if method == "POST" else None, {"Content-Type": "image/jpeg"})
        assert (answer.status, answer.json()["name"]) == (404, "NoGalleryError")
    assert server.metric("fashion_infer_inferences_total") == 32  # only the warm-up ran the network
    assert server.stop() == 0
