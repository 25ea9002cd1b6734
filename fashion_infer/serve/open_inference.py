"""Parser of requests and writer of responses of KServe v2 (Open Inference Protocol) with the binary data extension.

A body is JSON. If the header Inference-Header-Content-Length gives the length of the JSON, the tensors follow it as
bytes in the order of the inputs. The protocol: https://github.com/kserve/open-inference-protocol. Triton's
documentation describes the extension under `extension_binary_data`.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import Box
from fashion_infer.serve.problems import RefusedError

LENGTH = "Inference-Header-Content-Length"
VERSION = "1"
MAX_IMAGES = 256  # most images in one request
MAX_JSON = 4 * 2**20  # longest JSON, bytes; while it is parsed, all other requests wait
TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
UNSUPPORTED = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification")


@dataclass(frozen=True)
class Inference:
    """A parsed inference request.

    Attributes:
        batch: pixels, uint8 [N, S, S, 3]; None if the request has encoded images.
        images: the encoded images; empty if the request has a batch.
        boxes: one box for each encoded image, x1 y1 x2 y2 in pixels; None for the whole images.
        id: the client's id of the request, which the response repeats; None without one.
        outputs: for each output's name, in the order of the response, whether it is sent as bytes (or as JSON).
    """

    batch: NDArray[np.uint8] | None
    images: list[bytes]
    boxes: list[Box] | None
    id: str | None
    outputs: dict[str, bool]


def metadata(name: str, spec: ModelSpec) -> dict[str, Any]:
    """The model's metadata: names, types and shapes of its inputs and outputs; -1 is the batch axis."""
    size = spec.image_size
    outputs = [
        {"name": output, "datatype": "FP32", "shape": [-1, *shape]} for output, shape in spec.output_shapes().items()
    ]
    inputs = [
        {"name": "images", "datatype": "UINT8", "shape": [-1, size, size, 3]},
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]},
    ]
    return {"name": name, "versions": [VERSION], "platform": "fashion_infer", "inputs": inputs, "outputs": outputs}


def parse(body: bytes, json_length: str | None, spec: ModelSpec) -> Inference:
    """Parse a request.

    Args:
        body: the request's body.
        json_length: the value of the header Inference-Header-Content-Length, None without that header.
        spec: the model's specification.

    Raises:
        RefusedError: the request cannot be used (400), or its JSON is too long (413); the message says why.
    """
    head, tail = _split(body, json_length)
    tensors: dict[str, Any] = {}
    for tensor in _list_of(head, "inputs"):
        name = _text(tensor, "name")
        if name in tensors:
            raise _wrong(f"input {name} is there twice")
        tensors[name], tail = _tensor(tensor, tail)
    if tail:
        raise _wrong(f"{len(tail)} bytes are left after the last input")
    if unknown := tensors.keys() - {"images", "image", "boxes"}:
        raise _wrong(f"the model has no input {min(unknown)}: give images, or image with optional boxes")
    if len(tensors.keys() & {"images", "image"}) != 1:
        raise _wrong("give either images (UINT8 [N, S, S, 3]) or image (BYTES [N])")
    id = head.get("id")
    if id is not None and not (isinstance(id, str) and len(id) <= 1024):
        raise _wrong("id must be a text of at most 1024 characters")
    outputs = _outputs(head, list(spec.output_shapes()))
    return Inference(*_images(tensors, spec), id=id, outputs=outputs)


def response(name: str, inference: Inference, outputs: Outputs) -> tuple[bytes, int | None]:
    """Write a response.

    Args:
        name: the model's name.
        inference: the request.
        outputs: the network's outputs, at least those that the request names.

    Returns:
        The body, and the length of its JSON in bytes, or None if no tensors follow the JSON.
    """
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for output, as_bytes in inference.outputs.items():
        values = outputs[output].astype("<f4", copy=False)
        tensor = {"name": output, "datatype": "FP32", "shape": list(values.shape)}
        if as_bytes:
            tail.append(values.tobytes())
            described.append({**tensor, "parameters": {"binary_data_size": len(tail[-1])}})
        else:
            described.append({**tensor, "data": values.ravel().tolist()})
    fields: dict[str, Any] = {"model_name": name, "model_version": VERSION, "outputs": described}
    if inference.id is not None:
        fields["id"] = inference.id
    head = json.dumps(fields).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def _split(body: bytes, json_length: str | None) -> tuple[dict[str, Any], bytes]:
    """Split a body into its JSON object and the bytes after it."""
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and int(json_length[:20]) <= len(body)):
            raise _wrong(f"{LENGTH} must be the length of the JSON in bytes, at most the length of the body")
        length = int(json_length)
    if length > MAX_JSON:
        detail = f"the JSON of a request has at most {MAX_JSON} bytes: send tensors as binary data"
        raise RefusedError(413, detail, name="TooLargeError")
    try:
        head = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise _wrong(f"the request is no JSON: {error}") from error
    if not isinstance(head, dict):
        raise _wrong("the request must be a JSON object")
    return head, body[length:]


def _tensor(tensor: Mapping[str, Any], tail: bytes) -> tuple[NDArray[Any] | list[bytes], bytes]:
    """Read one input; returns its values and the bytes that remain for the inputs after it."""
    name, datatype = _text(tensor, "name"), _text(tensor, "datatype")
    if datatype not in (*TYPES, "BYTES"):
        raise _wrong(f"input {name} is of type {datatype}: this server reads UINT8, FP32 and BYTES")
    parameters = _parameters(tensor)
    shape = tensor.get("shape")
    if not (isinstance(shape, list) and 0 < len(shape) <= 4 and all(type(edge) is int and edge > 0 for edge in shape)):
        raise _wrong(f"the shape of input {name} must be a list of 1 to 4 whole numbers above 0")
    count = math.prod(shape)
    size = parameters.get("binary_data_size")
    if size is None:
        return _from_json(name, datatype, shape, tensor.get("data")), tail
    if "data" in tensor:
        raise _wrong(f"input {name} has both data and binary_data_size")
    if not (type(size) is int and 0 <= size <= len(tail)):
        raise _wrong(f"binary_data_size of input {name} is not the number of bytes in the body")
    data, tail = tail[:size], tail[size:]
    if datatype == "BYTES":
        return _texts(name, data, count), tail
    if count * TYPES[datatype].itemsize != size:
        raise _wrong(f"input {name} has {size} bytes, its shape and type need {count * TYPES[datatype].itemsize}")
    return np.frombuffer(data, TYPES[datatype]).reshape(shape), tail


def _from_json(name: str, datatype: str, shape: list[int], data: Any) -> NDArray[Any]:
    """Convert an input's JSON data, flat or nested, to an array of its type and shape."""
    if datatype == "BYTES":
        raise _wrong(f"input {name} is of type BYTES, which is read as binary data only")
    if not isinstance(data, list):
        raise _wrong(f"input {name} has no data")
    try:
        values = np.array(data)
        fits = values.dtype.kind in "iu" if datatype == "UINT8" else values.dtype.kind in "iuf"
        if not fits or (datatype == "UINT8" and not (values.min() >= 0 and values.max() <= 255)):
            raise ValueError(f"its values are not of type {datatype}")
        typed: NDArray[Any] = values.astype(TYPES[datatype]).reshape(shape)
        return typed
    except (ValueError, OverflowError) as error:
        raise _wrong(f"the data of input {name} cannot be used: {error}") from error


def _texts(name: str, data: bytes, count: int) -> list[bytes]:
    """Split a BYTES tensor into its `count` elements; 4 bytes, little-endian, before each one give its length."""
    texts: list[bytes] = []
    place = 0
    while place < len(data) and len(texts) <= count:
        length = struct.unpack_from("<I", data, place)[0] if place + 4 <= len(data) else len(data)
        if place + 4 + length > len(data):
            raise _wrong(f"an element of input {name} is longer than its bytes")
        texts.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    if len(texts) != count:
        raise _wrong(f"input {name} does not have {count} elements, as its shape says")
    return texts


def _images(
    tensors: Mapping[str, Any], spec: ModelSpec
) -> tuple[NDArray[np.uint8] | None, list[bytes], list[Box] | None]:
    """Check the inputs against each other; returns the batch, the encoded images and their boxes."""
    batch, images, boxes = tensors.get("images"), tensors.get("image", []), tensors.get("boxes")
    size = spec.image_size
    if batch is not None and (
        not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 3)
    ):
        raise _wrong(f"images must be UINT8 [N, {size}, {size}, 3]")
    if batch is None and not isinstance(images, list):
        raise _wrong("image must be BYTES [N], encoded images as binary data")
    if (count := len(images) if batch is None else len(batch)) > MAX_IMAGES:
        raise _wrong(f"the request has {count} images: at most {MAX_IMAGES} are allowed in one")
    if boxes is None:
        return batch, images, None
    if batch is not None or getattr(boxes, "dtype", None) != np.float32 or boxes.shape != (count, 4):
        raise _wrong("boxes must be FP32 [N, 4], x1 y1 x2 y2 in pixels, one for each of N encoded images")
    return None, images, boxes.tolist()


def _outputs(head: Mapping[str, Any], names: list[str]) -> dict[str, bool]:
    """Read which outputs the client wants, all by default, and whether it wants each as bytes."""
    binary = _flag(_parameters(head), "binary_data_output")
    described = _list_of(head, "outputs") if "outputs" in head else [{"name": name} for name in names]
    outputs: dict[str, bool] = {}
    for output in described:
        name = _text(output, "name")
        if name not in names:
            raise _wrong(f"the model has no output {name}: it has {', '.join(names)}")
        outputs[name] = _flag(_parameters(output), "binary_data", binary)
    return outputs


def _parameters(described: Mapping[str, Any]) -> dict[str, Any]:
    parameters = described.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _wrong("parameters must be an object")
    for name in UNSUPPORTED:
        if name in parameters:
            raise _wrong(f"{name} is not supported: the request and the response must contain the tensors themselves")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"{name} must be true or false")
    return value


def _list_of(described: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = described.get(name)
    if not (isinstance(items, list) and 0 < len(items) <= 16 and all(isinstance(item, dict) for item in items)):
        raise _wrong(f"{name} must be a list of 1 to 16 objects")
    return items


def _text(described: Mapping[str, Any], name: str) -> str:
    value = described.get(name)
    if not isinstance(value, str):
        raise _wrong(f"an input or output has no {name}")
    return value


def _wrong(detail: str) -> RefusedError:
    return RefusedError(400, detail, name="InferenceRequestError")
