"""HTTP server: one ASGI application for one Predictor, with a web page, a gallery and KServe v2."""
