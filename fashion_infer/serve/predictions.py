"""`POST /v1/predict` and `POST /v1/search`: a photo in, what it shows or what is like it out."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer.gallery import search_to_dict
from fashion_infer.gallery.gallery import SearchOptions
from fashion_infer.serve.schemas import IMAGE_BODY, Failure, Found, Garment, responses
from fashion_infer.serve.service import Service
from fashion_infer.serve.uploads import boxes_of, read_upload

MAX_HITS = 200
MAX_OFFSET = 10_000

router = APIRouter(tags=["photos"])


@router.post(
    "/v1/predict", openapi_extra=IMAGE_BODY, responses=responses(Garment | list[Garment | Failure], problems=(400,))
)
async def predict(
    request: Request,
    boxes: Annotated[
        str | None, Query(description="JSON [[x1, y1, x2, y2], ...], pixels of the upright image.")
    ] = None,
    embedding: Annotated[bool, Query(description="With the embedding, of unit length.")] = False,
) -> Response:
    """What a garment is: an object for the whole image, with boxes a list, a bad box with its error in place."""
    service: Service = request.app.state.service
    upload = await read_upload(request)
    asked = boxes_of(upload.fields.get("boxes", boxes))
    with_embedding = embedding or upload.fields.get("embedding", "").lower() in ("true", "1")
    predictions = await service.predict(upload.image, asked, request.state.deadline)
    described = [prediction.to_dict(embedding=with_embedding) for prediction in predictions]
    return JSONResponse(described[0] if asked is None else described)


@router.post("/v1/search", openapi_extra=IMAGE_BODY, responses=responses(Found, problems=(400, 404)))
async def search(
    request: Request,
    boxes: Annotated[str | None, Query(description="JSON [[x1, y1, x2, y2], ...]: a query each.")] = None,
    where: Annotated[str | None, Query(description="A filter, such as price<=50 and category=Dress.")] = None,
    limit: Annotated[int, Query(description="Hits of each query.", ge=1, le=MAX_HITS)] = 10,
    offset: Annotated[int, Query(description="Hits to leave out before the first.", ge=0, le=MAX_OFFSET)] = 0,
    min_score: Annotated[float | None, Query(description="Leave out hits that score less.")] = None,
    group_by: Annotated[str | None, Query(description="Only the best row of each value of a column.")] = None,
    diversity: Annotated[float, Query(description="From 0, by likeness alone, to 1.", ge=0, le=1)] = 0.0,
    exact: Annotated[bool, Query(description="Compare every row, also of a large gallery.")] = False,
) -> Response:
    """The garments of the gallery that are most like the photo, or like each of its boxes."""
    service: Service = request.app.state.service
    upload = await read_upload(request)
    asked = boxes_of(upload.fields.get("boxes", boxes))
    options: SearchOptions = {
        "where": upload.fields.get("where", where),
        "limit": limit,
        "offset": offset,
        "min_score": min_score,
        "group_by": group_by,
        "diversity": diversity,
        "exact": exact,
    }
    service.needed_gallery()  # where there is none, the network need not run
    predictions = await service.predict(upload.image, asked, request.state.deadline)
    results = await service.read(lambda gallery: gallery.search(predictions, **options)) if predictions else []
    space = service.predictor.spec.embedding_space
    return JSONResponse(search_to_dict(results, space))
