"""Pictures as files: encoded, and written under names that do not collide."""

import hashlib
import os
from pathlib import Path

import cv2

from fashion_infer.errors import OutputError, UsageError
from fashion_infer.files import write_atomically
from fashion_infer.images import Pixels

_LONGEST = 240  # bytes of a file's name, of which systems allow 255


def encode_jpeg(pixels: Pixels) -> bytes:
    """uint8 [H, W, 3] RGB -> the bytes of a JPEG."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be encoded as JPEG")
    return encoded.tobytes()


class PictureFolder:
    """A folder of pictures, each named after the image that it shows.

    photos/a.jpg becomes photos_a.jpg.jpg. Where another image has that name already, or the name would be too long,
    it ends with a hash of the image's path.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is not there.

        Raises:
            UsageError: it cannot be made, or is a file.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} cannot be a folder of pictures: {error.strerror}") from error
        self._folder = folder
        self._shown: dict[str, str] = {}  # name of a picture: path of the image that it shows

    def save(self, pixels: Pixels, image: str) -> Path:
        """Write the picture of an image.

        Args:
            pixels: uint8 [H, W, 3] RGB.
            image: path of the image that the picture shows.

        Raises:
            OutputError: it cannot be written; no half of it is left.
        """
        encoded = encode_jpeg(pixels)
        path = self._folder / self._name(image)
        write_atomically(path, lambda temporary: temporary.write_bytes(encoded))
        return path

    def _name(self, image: str) -> str:
        name = f"{image.lstrip('./').replace('/', '_')}.jpg"
        encoded = os.fsencode(name)
        if len(encoded) > _LONGEST or self._shown.setdefault(name, image) != image:
            digest = hashlib.sha256(os.fsencode(image)).hexdigest()[:16]
            return f"{os.fsdecode(encoded[: _LONGEST - 30])}-{digest}.jpg"
        return name
