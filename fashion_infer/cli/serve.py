"""The command `fashion-infer serve`."""

import logging
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from fashion_infer.cli.shared import Backend, Device, Model, Threads
from fashion_infer.errors import UsageError, missing_extra
from fashion_infer.predictor import Predictor


def serve(
    model: Model,
    gallery: Annotated[
        str | None, typer.Option(help="Gallery to search: a folder, or http(s)://host:port/collection.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 means all addresses of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 means any free port.", min=0, max=65535)] = 8000,
    max_wait_ms: Annotated[
        float, typer.Option(help="Refuse (503) requests that would wait longer than this.", min=0)
    ] = 100.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that every request except health checks must send.")
    ] = None,
    root_path: Annotated[str, typer.Option(help="Prefix of all paths behind a proxy, such as /fashion.")] = "",
    device: Device = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Serve a model over HTTP: a page to drop a photo on, a JSON API with its documentation, KServe v2, metrics.

    The server is one process with one model and writes one JSON line for each request to stderr. After SIGTERM it
    answers the accepted requests and ends with exit code 0. It speaks plain HTTP: put a proxy with TLS in front of it
    if others can reach it. Use Ray Serve, which serves the same application, for several processes or machines.

    Examples:

        fashion-infer serve fashionnet-lite

        fashion-infer serve fashionnet.onnx --gallery shop.gallery --port 8080 --api-key-file key.txt
    """
    try:
        from fashion_infer.serve.app import application
        from fashion_infer.serve.keys import read_key
        from fashion_infer.serve.server import serve as run
    except ImportError as error:
        raise missing_extra("fastapi", "serve", error) from error
    key = None if api_key_file is None else read_key(api_key_file)
    if root_path and not (root_path.startswith("/") and not root_path.endswith("/")):
        raise UsageError(f"--root-path must begin with / and not end with one, got {root_path!r}")
    if key is None and not _is_loopback(host):
        logging.getLogger("fashion_infer").warning("anybody who reaches %s may use it: see --api-key-file", host)
    with ExitStack() as stack:
        predictor = stack.enter_context(Predictor(model, device=device, backend=backend, threads=threads))
        opened = None
        if gallery is not None:
            from fashion_infer.gallery import Gallery

            opened = stack.enter_context(Gallery(gallery, predictor, create=False))
        app = application(predictor, opened, max_wait_ms=max_wait_ms, api_key=key, root_path=root_path)
        run(app, host, port, {"model": model, "gallery": gallery})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
