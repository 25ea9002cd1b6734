"""Parser of uploads: an image alone or in a form, and the parameters that are sent with it."""

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

MAX_BOXES = 64  # most boxes in one request
MAX_FIELDS = 16  # most fields in a form
MAX_FIELD_BYTES = 65_536  # longest field of a form, bytes
PIECE = 262_144  # bytes of a form that are parsed before other requests get a turn
Boxes = Annotated[list[tuple[float, float, float, float]], Field(max_length=MAX_BOXES)]

_BOXES: TypeAdapter[Boxes] = TypeAdapter(Boxes)


@dataclass
class Upload:
    """An uploaded image and the fields of its form.

    Attributes:
        image: the encoded image; may be empty.
        fields: the form's text fields by name; empty if the image was sent without a form.
    """

    image: bytes
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: Request) -> Upload:
    """Read the image of a request.

    Raises:
        RefusedError: the content type is not an image's or a form's, or the form is malformed or has no image.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        detail = f"send the image's bytes as image/jpeg or the like, or as a form (multipart/form-data), not as {kind}"
        raise RefusedError(415, detail, name="ContentTypeError")
    return Upload(await request.body())


async def _read_form(request: Request) -> Upload:
    """Read the image of a form, and its text fields."""
    parser = MultiPartParser(
        request.headers,
        _in_pieces(await request.body()),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    parser.spool_max_size = MAX_BODY  # no temporary file: the body is in memory anyway
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
    """Split a body into pieces, and let other requests run after each of them."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]
        await asyncio.sleep(0)


def boxes_of(text: str | None) -> Boxes | None:
    """Parse boxes from JSON; None without boxes.

    Raises:
        UsageError: the text is not JSON of boxes, or has more than MAX_BOXES.
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
    """Parse the user's own columns from JSON; None without columns.

    Raises:
        UsageError: the text is not a JSON object.
    """
    if text is None:
        return None
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"payload is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise UsageError('payload must be a JSON object of your own columns, such as {"price": 30}')
    return payload
