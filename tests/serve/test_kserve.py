"""KServe v2, with `tritonclient.http` as the client."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from fashion_infer import Predictor

NAME = "fashionnet-lite"
SIZE = 224  # side of the model's input, pixels


@pytest.fixture(scope="module")
def client(server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(model: Path, batch: np.ndarray) -> dict[str, np.ndarray]:
    with Predictor(model, threads=1) as predictor:
        return predictor.run(batch)


def tensor(name: str, values: np.ndarray, kind: str, *, binary: bool = True) -> triton.InferInput:
    result = triton.InferInput(name, list(values.shape), kind)
    result.set_data_from_numpy(values, binary_data=binary)
    return result


def encoded(*images: bytes) -> triton.InferInput:
    return tensor("image", np.array(images, np.object_), "BYTES")


def test_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    described = client.get_model_metadata(NAME)
    assert described["inputs"][0] == {"name": "images", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}
    assert {o["name"]: o["shape"] for o in described["outputs"]}["visibility"] == [-1, 8, 3]


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_a_batch(client, batch, expected, binary_input, binary_output) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_output) for name in expected]
    sent = tensor("images", batch, "UINT8", binary=binary_input)
    result = client.infer(NAME, [sent], outputs=outputs, request_id="my-7")
    assert result.get_response()["id"] == "my-7"
    for name, values in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), values, atol=1e-4)


def test_all_outputs_as_bytes_by_default(client, batch, expected) -> None:
    """Without named outputs, tritonclient sets `binary_data_output` for the whole request."""
    result = client.infer(NAME, [tensor("images", batch, "UINT8")], model_version="1")
    assert {output["name"] for output in result.get_response()["outputs"]} == set(expected)
    np.testing.assert_allclose(result.as_numpy("embedding"), expected["embedding"], atol=1e-4)


def test_outputs_by_name(client, batch, expected) -> None:
    result = client.infer(NAME, [tensor("images", batch, "UINT8")], outputs=[triton.InferRequestedOutput("category")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["category"]


def test_encoded_images_give_the_predictors_results(client, model, photo, big_photo) -> None:
    result = client.infer(NAME, [encoded(photo, big_photo, photo)])
    with Predictor(model, threads=1) as predictor:
        predicted = predictor.predict([photo, big_photo, photo])
    for place, prediction in enumerate(predicted):
        np.testing.assert_allclose(result.as_numpy("embedding")[place], prediction.embedding, atol=1e-4)
        np.testing.assert_allclose(result.as_numpy("attributes")[place], prediction.attribute_scores, atol=1e-4)


def test_encoded_images_with_boxes(client, model, photo) -> None:
    boxes = np.array([[0, 0, 100, 100], [50, 60, 200, 220]], np.float32)
    result = client.infer(NAME, [tensor("boxes", boxes, "FP32"), encoded(photo, photo)])
    with Predictor(model, threads=1) as predictor:
        predicted = [predictor.predict(photo, boxes=[box])[0] for box in boxes.tolist()]
    for place, prediction in enumerate(predicted):
        np.testing.assert_allclose(result.as_numpy("embedding")[place], prediction.embedding, atol=1e-4)


def test_a_bad_image_or_box_is_named(client, photo) -> None:
    with pytest.raises(InferenceServerException, match="the image"):
        client.infer(NAME, [encoded(photo, b"this is none")])
    with pytest.raises(InferenceServerException, match="box"):
        client.infer(NAME, [encoded(photo), tensor("boxes", np.full((1, 4), 9e9, np.float32), "FP32")])


def test_unsupported_requests_are_refused_with_a_reason(client, batch, photo) -> None:
    sent = tensor("images", batch, "UINT8")
    for algorithm in ("gzip", "deflate"):
        with pytest.raises(InferenceServerException, match="without a Content-Encoding"):
            client.infer(NAME, [sent], request_compression_algorithm=algorithm)
    with pytest.raises(InferenceServerException, match="classification is not supported"):
        client.infer(NAME, [sent], outputs=[triton.InferRequestedOutput("category", class_count=3)])
    shared = triton.InferInput("images", list(batch.shape), "UINT8")
    shared.set_shared_memory("region", batch.nbytes)
    with pytest.raises(InferenceServerException, match="shared_memory_region is not supported"):
        client.infer(NAME, [shared])
    with pytest.raises(InferenceServerException, match="no other"):
        client.infer("other", [sent])
    with pytest.raises(InferenceServerException, match="no other"):
        client.infer(NAME, [sent], model_version="2")


def test_a_request_for_a_compressed_response_gets_an_uncompressed_one(client, batch, expected) -> None:
    """A server may ignore the encodings that a client accepts."""
    result = client.infer(NAME, [tensor("images", batch, "UINT8")], response_compression_algorithm="gzip")
    np.testing.assert_allclose(result.as_numpy("category"), expected["category"], atol=1e-4)


def test_errors_are_problem_documents(server) -> None:
    body = json.dumps({"inputs": [{"name": "images", "shape": [1], "datatype": "INT128", "data": [1]}]}).encode()
    answer = server.post(f"/v2/models/{NAME}/infer", body, "application/json")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"] == answer.json()["detail"]
