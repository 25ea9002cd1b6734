"""The ASGI application: what is served under which path, and what is around it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fashion_infer import __version__
from fashion_infer.errors import FashionInferError
from fashion_infer.gallery import Gallery
from fashion_infer.predictor import Predictor
from fashion_infer.serve import documentation, health, items, kserve, page, predictions
from fashion_infer.serve.door import Door
from fashion_infer.serve.problems import RefusedError, answer
from fashion_infer.serve.service import Service


def application(
    predictor: Predictor,
    gallery: Gallery | None = None,
    *,
    max_wait_ms: float = 100.0,
    api_key: str | None = None,
    root_path: str = "",
) -> FastAPI:
    """An ASGI application around a Predictor, and a Gallery of the same model where there is one.

    Both stay the caller's, who closes them after the application has ended. Its server must run its lifespan.

    Args:
        predictor: one for all requests; no other copy of the model is made.
        gallery: opened with this predictor.
        max_wait_ms: milliseconds that an image may wait for those before it; more would be answered by a 503.
        api_key: that every request must bring but those for health; None lets everybody in.
        root_path: prefix of every path, where a proxy in front serves the application under one, such as /fashion.
    """
    service = Service(predictor, gallery, max_wait_ms / 1e3)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm_up())
        try:
            yield
        finally:
            warming.cancel()
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="fashion-infer",
        version=__version__,
        summary="Clothing category, attributes, landmarks and similar garments of a photo.",
        root_path=root_path,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    for part in (page, predictions, items, kserve, health, documentation):
        app.include_router(part.router)
    app.add_middleware(Door, service=service, api_key=api_key)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such)
    for kind in (FashionInferError, RefusedError):
        app.add_exception_handler(kind, _failed)
    return app


async def _failed(request: Request, error: Exception) -> Response:
    return answer(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentences = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return answer(request, RefusedError(422, "; ".join(sentences), name="UsageError"))


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(request, RefusedError(error.status_code, error.detail, name="HTTPError", headers=error.headers))
