"""`POST /v1/predict` and `POST /v1/search`: recognise the garments in a photo, or search for similar ones."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fashion_infer.gallery import search_to_dict
from fashion_infer.gallery.gallery import SearchOptions
from fashion_infer.serve.schemas import IMAGE_BODY, Failure, Found, Garment, responses
from fashion_infer.serve.service import Service
from fashion_infer.serve.uploads import boxes_of, read_upload

MAX_HITS = 200  # largest `limit` of a search
MAX_OFFSET = 10_000  # largest `offset` of a search

router = APIRouter(tags=["photos"])


@router.post(
    "/v1/predict", openapi_extra=IMAGE_BODY, responses=responses(Garment | list[Garment | Failure], problems=(400,))
)
async def predict(
    request: Request,
    boxes: Annotated[
        str | None, Query(description="JSON [[x1, y1, x2, y2], ...] in pixels of the upright image.")
    ] = None,
    embedding: Annotated[bool, Query(description="Include the embedding, a vector of unit length.")] = False,
) -> Response:
    """Recognise the garment of the whole image (an object), or of each box (a list, with an error for a bad box)."""
    service: Service = request.app.state.service
    upload = await read_upload(request)
    garments = boxes_of(upload.fields.get("boxes", boxes))
    with_embedding = embedding or upload.fields.get("embedding", "").lower() in ("true", "1")
    predictions = await service.predict(upload.image, garments, request.state.deadline)
    described = [prediction.to_dict(embedding=with_embedding) for prediction in predictions]
    return JSONResponse(described[0] if garments is None else described)


@router.post("/v1/search", openapi_extra=IMAGE_BODY, responses=responses(Found, problems=(400, 404)))
async def search(
    request: Request,
    boxes: Annotated[
        str | None,
        Query(description="JSON [[x1, y1, x2, y2], ...] in pixels of the upright image. Each box is a query."),
    ] = None,
    where: Annotated[str | None, Query(description="Filter of the rows, such as price<=50 and category=Dress.")] = None,
    limit: Annotated[int, Query(description="Largest number of hits of each query.", ge=1, le=MAX_HITS)] = 10,
    offset: Annotated[int, Query(description="Number of best hits to skip.", ge=0, le=MAX_OFFSET)] = 0,
    min_score: Annotated[float | None, Query(description="Leave out hits with a lower score.")] = None,
    group_by: Annotated[
        str | None, Query(description="Name of a column: keep only the best hit for each of its values.")
    ] = None,
    diversity: Annotated[
        float,
        Query(
            description="From 0 (order by similarity alone) to 1 (prefer hits that differ from each other).", ge=0, le=1
        ),
    ] = 0.0,
    exact: Annotated[bool, Query(description="Compare every row, even in a large gallery.")] = False,
) -> Response:
    """Search the gallery for the garments most similar to the photo, or to each of its boxes."""
    service: Service = request.app.state.service
    upload = await read_upload(request)
    garments = boxes_of(upload.fields.get("boxes", boxes))
    options: SearchOptions = {
        "where": upload.fields.get("where", where),
        "limit": limit,
        "offset": offset,
        "min_score": min_score,
        "group_by": group_by,
        "diversity": diversity,
        "exact": exact,
    }
    service.needed_gallery()  # without a gallery, fail before the network runs
    predictions = await service.predict(upload.image, garments, request.state.deadline)
    results = await service.read(lambda gallery: gallery.search(predictions, **options)) if predictions else []
    space = service.predictor.spec.embedding_space
    return JSONResponse(search_to_dict(results, space))
