"""The ASGI application: its routes, the middleware around them, and its error handlers."""

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
    """Make the ASGI application for a Predictor and an optional Gallery.

    The caller closes both after the application has ended. The server that runs the application must support ASGI's
    lifespan protocol.

    Args:
        predictor: the Predictor for all requests; no other copy of the model is made.
        gallery: the gallery to search, opened with this predictor; None for a server without one.
        max_wait_ms: longest estimated waiting time of an image, milliseconds; a longer one is answered with a 503.
        api_key: the key that every request except health checks must send; None accepts all requests.
        root_path: prefix of every path, such as /fashion, if a proxy serves the application under one.

    Returns:
        The application, ready for any ASGI server.
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
        docs_url=None,  # FastAPI's own pages load scripts from another site
        redoc_url=None,
    )
    app.state.service = service
    for part in (page, predictions, items, kserve, health, documentation):
        app.include_router(part.router)
    app.add_middleware(Door, service=service, api_key=api_key)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    for kind in (FashionInferError, RefusedError):
        app.add_exception_handler(kind, _failed)
    return app


async def _failed(request: Request, error: Exception) -> Response:
    return answer(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    sentences = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return answer(request, RefusedError(422, "; ".join(sentences), name="UsageError"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(request, RefusedError(error.status_code, error.detail, name="HTTPError", headers=error.headers))
