"""The server: one ASGI application around one Predictor, and the same on a Ray cluster."""
