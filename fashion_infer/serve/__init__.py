"""Serving over HTTP: one ASGI application around one Predictor, with a page, a gallery and KServe v2."""
