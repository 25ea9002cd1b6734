"""Parsing requests and writing responses of KServe v2."""

import json
import struct

import numpy as np
import pytest

from fashion_infer.model_spec import ModelSpec
from fashion_infer.serve.open_inference import MAX_JSON, Inference, parse, response
from fashion_infer.serve.problems import RefusedError

SPEC = ModelSpec("vgg16", 2, ("Tee", "Dress"), ("floral",), ("texture",), 4, True, "")
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
AS_JSON = {"name": "images", "shape": [2, 2, 2, 3], "datatype": "UINT8", "data": PIXELS.ravel().tolist()}
AS_BYTES = {"name": "images", "shape": [2, 2, 2, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 24}}


def request(*inputs: dict, tail: bytes = b"", **more: object) -> tuple[bytes, str]:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + tail, str(len(head))


def texts(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


@pytest.mark.parametrize(
    "tensor", [AS_JSON, {**AS_JSON, "data": PIXELS.tolist()}, {**AS_BYTES}], ids=["flat", "nested", "binary"]
)
def test_a_batch_in_each_form(tensor) -> None:
    inference = parse(*request(tensor, tail=b"" if "data" in tensor else PIXELS.tobytes(), id="7"), SPEC)
    assert inference.batch is not None
    assert inference.batch.dtype == np.uint8
    np.testing.assert_array_equal(inference.batch, PIXELS)
    assert inference.id == "7"
    assert list(inference.outputs) == ["category", "attributes", "landmarks", "visibility", "embedding"]


def test_several_inputs_share_the_bytes_in_their_order() -> None:
    images, boxes = texts(b"one", b""), np.array([[0, 1, 2, 3], [4, 5, 6, 7.5]], "<f4")
    inference = parse(
        *request(
            {"name": "boxes", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}},
            {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(images)}},
            tail=boxes.tobytes() + images,
        ),
        SPEC,
    )
    assert inference.images == [b"one", b""]
    assert inference.boxes == boxes.tolist()
    assert inference.batch is None


@pytest.mark.parametrize(
    ("whole", "each", "expected"),
    [(None, None, False), (True, None, True), (True, False, False), (False, True, True), (None, True, True)],
)
def test_whether_an_output_is_sent_as_bytes(whole, each, expected) -> None:
    output = {"name": "category"} if each is None else {"name": "category", "parameters": {"binary_data": each}}
    more = {} if whole is None else {"parameters": {"binary_data_output": whole}}
    assert parse(*request(AS_JSON, outputs=[output], **more), SPEC).outputs == {"category": expected}


BOXES = {"name": "boxes", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("inputs", "tail", "message"),
    [
        ([{**AS_JSON, "datatype": "FP64"}], b"", "of type FP64"),
        ([{**AS_JSON, "datatype": 3}], b"", "has no datatype"),
        ([{**AS_JSON, "name": None}], b"", "has no name"),
        ([{**AS_JSON, "name": "x"}], b"", "no input x"),
        ([{**AS_JSON, "shape": [2, 2, 2]}], b"", "cannot be used"),
        ([{**AS_JSON, "shape": [4, 2, 1, 3]}], b"", "must be UINT8"),
        ([{**AS_JSON, "shape": [-1, 2, 2, 3]}], b"", "above 0"),
        ([{**AS_JSON, "shape": [2.0, 2, 2, 3]}], b"", "above 0"),
        ([{**AS_JSON, "shape": [True, 2, 2, 3]}], b"", "above 0"),
        ([{**AS_JSON, "shape": [10**30] * 4}], b"", "cannot be used"),
        ([{**AS_JSON, "shape": []}], b"", "1 to 4"),
        ([{**AS_JSON, "data": [256] * 24}], b"", "not of type UINT8"),
        ([{**AS_JSON, "data": [-1] * 24}], b"", "not of type UINT8"),
        ([{**AS_JSON, "data": [0.5] * 24}], b"", "not of type UINT8"),
        ([{**AS_JSON, "data": ["a"] * 24}], b"", "not of type UINT8"),
        ([{**AS_JSON, "data": [10**40] * 24}], b"", "not of type UINT8"),
        ([{**AS_JSON, "data": [[1], [2, 3]]}], b"", "cannot be used"),
        ([{**AS_JSON, "data": []}], b"", "cannot be used"),
        ([{**AS_JSON, "data": "abc"}], b"", "has no data"),
        ([AS_JSON, AS_JSON], b"", "there twice"),
        ([AS_JSON, BOXES], b"", "boxes must be"),
        ([BOXES], b"", "give either"),
        ([AS_JSON], b"more", "4 bytes are left"),
        ([AS_BYTES], bytes(23), "not the number of bytes"),
        ([AS_BYTES], bytes(25), "1 bytes are left"),
        ([{**AS_BYTES, "parameters": {"binary_data_size": 23}}], bytes(23), "shape and type need 24"),
        ([{**AS_BYTES, "parameters": {"binary_data_size": -1}}], bytes(23), "not the number of bytes"),
        ([{**AS_BYTES, "data": [1]}], bytes(24), "both data and"),
        ([{**AS_BYTES, "parameters": {"shared_memory_region": "a"}}], b"", "shared_memory_region is not supported"),
        ([{**AS_BYTES, "parameters": 3}], b"", "parameters must be"),
        ([{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["a"]}], b"", "binary data only"),
        ([{"name": "image", "shape": [24], "datatype": "UINT8", "data": [1] * 24}], b"", "image must be BYTES"),
        (
            [{"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 7}}],
            texts(b"one"),
            "does not have 2 elements",
        ),
        (
            [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 14}}],
            texts(b"one", b"two"),
            "does not have 1 elements",
        ),
        (
            [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}],
            texts(b"one")[:6],
            "longer than its bytes",
        ),
        (
            [{"name": "image", "shape": [300], "datatype": "BYTES", "parameters": {"binary_data_size": 1200}}],
            bytes(1200),
            "at most 256",
        ),
        ([], b"", "1 to 16"),
        ([3], b"", "1 to 16"),
        ([AS_JSON] * 17, b"", "1 to 16"),
    ],
)
def test_an_input_that_cannot_be_used(inputs, tail, message) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        parse(*request(*inputs, tail=tail), SPEC)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"outputs": [{"name": "scores"}]}, "no output scores"),
        ({"outputs": []}, "1 to 16"),
        ({"outputs": [{"name": "category", "parameters": {"classification": 3}}]}, "classification is not supported"),
        ({"outputs": [{"name": "category", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({"parameters": {"binary_data_output": "yes"}}, "must be true or false"),
        ({"id": 7}, "id must be"),
        ({"id": "7" * 2000}, "id must be"),
    ],
)
def test_a_request_that_cannot_be_answered(more, message) -> None:
    with pytest.raises(RefusedError, match=message):
        parse(*request(AS_JSON, **more), SPEC)


@pytest.mark.parametrize(
    ("body", "length", "status", "message"),
    [
        (b"{", None, 400, "no JSON"),
        (b"[]", None, 400, "must be a JSON object"),
        (b"\xff\xfe", None, 400, "no JSON"),
        (b"[" * 200_000, None, 400, "no JSON"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", None, 400, "no JSON"),
        (b" " * (MAX_JSON + 1), None, 413, "as binary data"),
        (b"{}", "3", 400, "length of the JSON"),
        (b"{}", "-1", 400, "length of the JSON"),
        (b"{}", "x", 400, "length of the JSON"),
        (b"{}", "9" * 5000, 400, "length of the JSON"),
        (b"{}", "²", 400, "length of the JSON"),
    ],
)
def test_a_malformed_body_is_refused(body, length, status, message) -> None:
    with pytest.raises(RefusedError, match=message) as refused:
        parse(body, length, SPEC)
    assert refused.value.status == status


def test_outputs_as_bytes_follow_the_json_in_their_order() -> None:
    outputs = {"category": np.array([[0.25, 0.75]], np.float32), "embedding": np.arange(4, dtype=np.float32)[None]}
    inference = Inference(None, [], None, "me", {"embedding": True, "category": False})
    body, length = response("net", inference, outputs)
    assert length is not None
    head = json.loads(body[:length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("net", "1", "me")
    embedding, category = head["outputs"]
    assert embedding == {
        "name": "embedding",
        "datatype": "FP32",
        "shape": [1, 4],
        "parameters": {"binary_data_size": 16},
    }
    assert category == {"name": "category", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), [0, 1, 2, 3])


def test_outputs_without_bytes_have_no_length() -> None:
    inference = Inference(None, [], None, None, {"category": False})
    body, length = response("net", inference, {"category": np.zeros((1, 2), np.float32)})
    assert length is None
    assert "id" not in json.loads(body)
