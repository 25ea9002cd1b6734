"""The endpoints of the gallery."""

import json
from urllib.parse import quote

import cv2
import numpy as np

from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render

ID = "übermut/a b?&#1"


def test_a_row_is_added_read_and_removed(server, photo) -> None:
    path = f"/v1/items/{quote(ID)}"
    assert server.ask("GET", path).status == 404
    added = server.ask(
        "PUT", f"{path}?payload={quote(json.dumps({'price': 5}))}", photo, {"Content-Type": "image/jpeg"}
    )
    assert added.status == 201, added.body
    assert added.json() == {"items": [{"id": ID, "status": "added", "error": None}]}
    assert added.headers["location"] == path
    row = server.ask("GET", added.headers["location"]).json()
    assert (row["id"], row["payload"]["price"], len(row["landmarks"])) == (ID, 5, 8)
    again = server.ask(
        "PUT", f"{path}?payload={quote(json.dumps({'price': 5}))}", photo, {"Content-Type": "image/jpeg"}
    )
    assert (again.status, again.json()["items"][0]["status"]) == (200, "unchanged")
    assert server.post("/v1/search?limit=1", photo).json()["objects"][0]["hits"][0]["id"] == ID
    assert server.ask("DELETE", path).status == 204
    assert server.ask("DELETE", path).status == 404


def test_posting_names_a_row_after_its_bytes(server) -> None:
    image = to_jpeg(render(1, 5, size=100))
    answer = server.post("/v1/items?boxes=[[0,0,50,50],[900,900,901,901]]", image)
    assert answer.status == 201, answer.body
    good, bad = answer.json()["items"]
    assert good["status"] == "added"
    assert bad["status"] == "failed"
    assert bad["error"]
    assert len(good["id"].partition("#")[0]) == 64
    assert server.ask("DELETE", f"/v1/items/{quote(good['id'])}").status == 204


def test_unusable_photos_and_payloads_are_refused(server, photo) -> None:
    answer = server.post("/v1/items?id=bad", b"no image")
    assert (answer.status, answer.json()["name"]) == (422, "ImageError")
    for payload in ("no", "[1]", "[" * 100_000, '{"category": "mine"}', '{"a": {"b": 1}}'):
        answer = server.ask("PUT", "/v1/items/bad", form_of(photo, payload), {"Content-Type": FORM})
        assert (answer.status, answer.json()["name"]) in [(422, "UsageError"), (400, "FormError")], (
            payload[:9],
            answer.body,
        )
    assert server.ask("GET", "/v1/items/bad").status == 404


FORM = "multipart/form-data; boundary=b"


def form_of(image: bytes, payload: str) -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="payload"\r\n\r\n'
        + payload.encode()
        + b'\r\n--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        + image
        + b"\r\n--b--\r\n"
    )


def test_the_facts_of_the_gallery(server) -> None:
    facts = server.ask("GET", "/v1/gallery").json()
    assert facts["rows"] >= 24
    assert facts["columns"]["price"]


def test_the_picture_of_a_row(server, shop, pictures) -> None:
    path = sorted(pictures.iterdir())[0]
    answer = server.ask("GET", f"/v1/pictures/{quote(str(path))}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "image/jpeg"
    small = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert 0 < max(small.shape[:2]) <= 320


def test_there_are_pictures_of_rows_with_a_path_only(server, photo) -> None:
    for path in ("/etc/passwd", "%2Fetc%2Fpasswd", "..%2F..%2Fetc%2Fpasswd"):
        assert server.ask("GET", f"/v1/pictures/{path}").status == 404
    assert server.post("/v1/items?id=no-path", photo).status == 201
    answer = server.ask("GET", "/v1/pictures/no-path")
    assert (answer.status, answer.json()["name"]) == (404, "NoPictureError")
    assert server.ask("DELETE", "/v1/items/no-path").status == 204
