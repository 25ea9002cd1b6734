"""`GET /docs`: the OpenAPI document as one page that loads no other file."""

import json
from html import escape
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fashion_infer.serve.page import policy

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; } pre { overflow-x: auto; padding: .5rem; border: 1px solid #8884; }
summary { cursor: pointer; padding: .4rem 0; } details { border-bottom: 1px solid #8884; } td { padding-right: 1rem; }
"""

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The documentation page."""
    document = request.app.openapi()
    parts = [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = document.get("components", {}).get("schemas", {})
    shapes = "".join(f"<details><summary>{escape(n)}</summary>{_json(s)}</details>" for n, s in schemas.items())
    info = document["info"]
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['summary'])} "
        f'The same as JSON: <a href="openapi.json">openapi.json</a>.</p>{"".join(parts)}<h2>Schemas</h2>{shapes}</html>'
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy(styles=[STYLE])})


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(p.get('description', ''))}"
        for p in operation.get("parameters", [])
    )
    body = operation.get("requestBody", {})
    content_types = ", ".join(body.get("content", {}))
    described_body = f"<p>Body ({escape(content_types)}): {escape(body.get('description', ''))}</p>" if body else ""
    return (
        f"<details><summary><code>{method.upper()} {escape(path)}</code> {escape(operation.get('description', ''))}"
        f"</summary><table>{rows}</table>{described_body}{_json(operation.get('responses', {}))}</details>"
    )


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1))}</pre>"
