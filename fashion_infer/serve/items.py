"""Endpoints of the gallery: its rows, their pictures and its properties."""

import hashlib
from typing import Annotated, Any
from urllib.parse import quote

import cv2
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer.errors import UsageError
from fashion_infer.gallery import Gallery, Row
from fashion_infer.gallery.hits import plain
from fashion_infer.gallery.rows import landmarks_to_dicts, path_of_text
from fashion_infer.images import read_image
from fashion_infer.serve import schemas
from fashion_infer.serve.problems import RefusedError
from fashion_infer.serve.schemas import IMAGE_BODY, responses
from fashion_infer.serve.service import Service
from fashion_infer.serve.uploads import boxes_of, payload_of, read_upload

MAX_ID = 1024  # longest id of a row, characters
PICTURE_SIDE = 320  # longest side of a row's small picture, pixels

router = APIRouter(tags=["gallery"])
Boxes = Annotated[
    str | None, Query(description="JSON [[x1, y1, x2, y2], ...]. Each box becomes a row, whose id ends in #n.")
]
Payload = Annotated[str | None, Query(description='JSON object of your own columns, such as {"price": 30}.')]


@router.get("/v1/gallery", responses=responses(dict[str, Any], problems=(404,)))
async def about(request: Request) -> Response:
    """The gallery's number of rows, its columns and the model that it belongs to."""
    return JSONResponse(await _service(request).read(Gallery.info))


@router.post(
    "/v1/items",
    openapi_extra=IMAGE_BODY,
    status_code=201,
    responses=responses(schemas.Outcomes, status=201, problems=(404,)),
)
async def add(
    request: Request,
    id: Annotated[str | None, Query(description="Id of the row; by default the sha256 of the image's bytes.")] = None,
    payload: Payload = None,
    boxes: Boxes = None,
) -> Response:
    """Add a photo, or replace the one with the same id."""
    return await _put(request, id, payload, boxes)


@router.put(
    "/v1/items/{id:path}", openapi_extra=IMAGE_BODY, responses=responses(schemas.Outcomes, status=201, problems=(404,))
)
async def put(request: Request, id: str, payload: Payload = None, boxes: Boxes = None) -> Response:
    """Add a photo under the id in the path, or replace the one with that id."""
    return await _put(request, id, payload, boxes)


@router.get("/v1/items/{id:path}", responses=responses(schemas.Item, problems=(404,)))
async def get(request: Request, id: str) -> Response:
    """A row: what the model recognised in its photo, and your own columns."""
    row = await _row(request, id)
    payload = {name: plain(value) for name, value in row.payload().items()}
    return JSONResponse({"id": row.id, "payload": payload, "landmarks": landmarks_to_dicts(row.landmarks)})


@router.delete("/v1/items/{id:path}", status_code=204, responses={404: {"description": "no such row"}})
async def remove(request: Request, id: str) -> Response:
    """Remove a row."""
    if not await _service(request).write(lambda gallery: gallery.remove(id)):
        raise _no_row(id)
    return Response(status_code=204)


@router.get(
    "/v1/pictures/{id:path}", responses={200: {"content": {"image/jpeg": {}}}, 404: {"description": "no picture"}}
)
async def picture(request: Request, id: str) -> Response:
    """A small picture of a row whose photo was added as a path that this server can still read."""
    row = await _row(request, id)
    if row.path is None:
        raise RefusedError(404, f"row {id!r} was added without a path, so it has no picture", name="NoPictureError")
    jpeg = await _service(request).in_thread(_small_jpeg, row)
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _small_jpeg(row: Row) -> bytes:
    """The row's photo as a JPEG of at most PICTURE_SIDE pixels a side."""
    assert row.path is not None
    pixels = read_image(path_of_text(row.path), side=PICTURE_SIDE).pixels
    scale = min(1.0, PICTURE_SIDE / max(pixels.shape[:2]))
    size = [max(1, round(edge * scale)) for edge in (pixels.shape[1], pixels.shape[0])]
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return jpeg.tobytes()


async def _put(request: Request, id: str | None, payload: str | None, boxes: str | None) -> Response:
    """Add the request's photo to the gallery; a form's fields take precedence over `payload` and `boxes`.

    Raises:
        FashionInferError: no garment of the photo could be added, or the id, payload or boxes cannot be used.
    """
    upload = await read_upload(request)
    name = id or upload.fields.get("id") or hashlib.sha256(upload.image).hexdigest()
    if not name.isprintable() or len(name) > MAX_ID:
        raise UsageError(f"an id must have at most {MAX_ID} characters, all of them printable")
    columns = payload_of(upload.fields.get("payload", payload))
    garments = boxes_of(upload.fields.get("boxes", boxes))
    report = await _service(request).write(lambda gallery: gallery.add([upload.image], [name], [columns], [garments]))
    if report.failed and len(report.failed) == len(report.outcomes):
        error = report.failed[0].error
        assert error is not None
        raise error
    outcomes = [{"id": o.id, "status": o.status, "error": o.error and str(o.error)} for o in report.outcomes]
    location = f"{request.scope.get('root_path', '')}/v1/items/{quote(name)}"
    return JSONResponse({"items": outcomes}, 201 if report.added else 200, {"Location": location})


async def _row(request: Request, id: str) -> Row:
    row = await _service(request).read(lambda gallery: gallery.get(id))
    if row is None:
        raise _no_row(id)
    return row


def _no_row(id: str) -> RefusedError:
    return RefusedError(404, f"the gallery has no row {id!r}", name="NoRowError")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
