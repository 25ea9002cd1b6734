"""Peer: LitServe around the same Predictor, which batches in LitServe's way.

python lit.py MODEL PORT
"""

import sys
from typing import Any

import litserve as ls
from fastapi import UploadFile

from fashion_infer import Predictor


class Api(ls.LitAPI):
    """Images that came within two milliseconds go through the Predictor as a list."""

    def setup(self, device: str) -> None:
        """Load the model, in LitServe's worker."""
        self.predictor = Predictor(sys.argv[1])

    def decode_request(self, request: UploadFile) -> bytes:
        """The file of the form."""
        return request.file.read()

    def predict(self, images: list[bytes]) -> list[dict[str, Any]]:
        """A result an image."""
        return [prediction.to_dict() for prediction in self.predictor.predict(images)]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """JSON."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.002)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
