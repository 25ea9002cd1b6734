"""Encoding of pictures, and folders of pictures with a unique name for each image."""

import hashlib
import os
from pathlib import Path

import cv2

from fashion_infer.errors import OutputError, UsageError
from fashion_infer.files import check_folder, write_atomically
from fashion_infer.images import Pixels

_LONGEST = 240  # longest name of a file, bytes; systems allow 255


def encode_jpeg(pixels: Pixels) -> bytes:
    """Encode uint8 [H, W, 3] RGB as a JPEG.

    Raises:
        OutputError: the picture cannot be encoded, such as one that is too large.
    """
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise OutputError(f"a picture of {pixels.shape[1]} x {pixels.shape[0]} pixels cannot be encoded as JPEG")
    return encoded.tobytes()


class PictureFolder:
    """A folder of pictures, each named after the image that it shows.

    The picture of photos/a.jpg is photos_a.jpg.jpg. If another image already has that name, or the name is too long, a
    hash of the image's path is added and the name is shortened as necessary.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder if it does not exist.

        Raises:
            UsageError: the folder cannot be created, or the path is that of a file.
            OutputError: nothing can be written to the folder.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} cannot be a folder of pictures: {error.strerror}") from error
        check_folder(folder)
        self._folder = folder
        self._shown: dict[str, str] = {}  # path of the image that each picture shows, by the picture's name

    def save(self, pixels: Pixels, image: str) -> Path:
        """Write the picture of an image.

        Args:
            pixels: uint8 [H, W, 3] RGB.
            image: path of the image that the picture shows.

        Returns:
            The path of the picture.

        Raises:
            OutputError: the picture cannot be written; no incomplete file is left.
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
