"""What a request brings: an image, alone or in a form, and the parameters that came with it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from fashion_infer.errors import UsageError
from fashion_infer.serve.door import MAX_BODY
from fashion_infer.serve.problems import RefusedError

MAX_BOXES = 64
MAX_FIELDS = 16
MAX_FIELD_BYTES = 65_536
PIECE = 262_144  # bytes of a form that are parsed before others get their turn
Boxes = Annotated[list[tuple[float, float, float, float]], Field(max_length=MAX_BOXES)]

_BOXES: TypeAdapter[Boxes] = TypeAdapter(Boxes)


@dataclass
class Upload:
    """An image and the fields that came with it in a form.

    Attributes:
        image: encoded, perhaps of no bytes.
        fields: by name; none where the image came alone.
    """

    image: bytes
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: Request) -> Upload:
    """The image of a request.

    Raises:
        RefusedError: another content type, a broken form, or one without an image.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        detail = f"send the image's bytes as image/jpeg or the like, or as a form (multipart/form-data), not as {kind}"
        raise RefusedError(415, detail, name="ContentTypeError")
    return Upload(await request.body())


async def _read_form(request: Request) -> Upload:
    parser = MultiPartParser(
        request.headers,
        _in_pieces(await request.body()),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    parser.spool_max_size = MAX_BODY  # in memory, where it is anyway
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        detail = f"the form cannot be read: {getattr(error, 'message', error)}"
        raise RefusedError(400, detail, name="FormError") from error
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise RefusedError(422, "the form has no file named image", name="FormError")
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return Upload(await image.read(), fields)


async def _in_pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    """A body as a stream that lets other requests have their turn."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]
        await asyncio.sleep(0)


def boxes_of(text: str | None) -> Boxes | None:
    """Boxes from their JSON.

    Raises:
        UsageError: it is none, or there are more than 64.
    """
    if text is None:
        return None
    try:
        return _BOXES.validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"boxes must be JSON such as [[x1, y1, x2, y2]], at most {MAX_BOXES}: {fault['msg']}"
        ) from error


def payload_of(text: str | None) -> dict[str, Any] | None:
    """The user's own columns from their JSON.

    Raises:
        UsageError: it is no JSON object.
    """
    if text is None:
        return None
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"payload is no JSON: {error}") from error
    if not isinstance(payload, dict):
        raise UsageError('payload must be a JSON object of your own columns, such as {"price": 30}')
    return payload
