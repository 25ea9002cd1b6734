"""Built-in models: one .onnx file each, beside this module, and what is known of them in `built_in.json`.

`python -m fashion_infer.export.built_in` puts one here.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.errors import ModelNotFoundError

FOLDER = Path(__file__).parent
LIST = FOLDER / "built_in.json"


@dataclass(frozen=True)
class BuiltIn:
    """A model that comes with the package.

    Attributes:
        about: what it is, one sentence.
        licence: of its weights.
        precision: that it computes in: fp32, or int8.
        image_size: side of the network's input, pixels.
        categories: their names.
        attributes: their names.
        bytes: size of its file.
        sha256: of its file, in hexadecimal.
    """

    about: str
    licence: str
    precision: str
    image_size: int
    categories: tuple[str, ...]
    attributes: tuple[str, ...]
    bytes: int
    sha256: str


def built_in() -> dict[str, BuiltIn]:
    """The models that come with the package, by name."""
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    return {name: BuiltIn(**{key: _tuple(value) for key, value in facts.items()}) for name, facts in listed.items()}


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file of a model, given as a path or as the name of a built-in one; a file of that name goes first.

    Raises:
        ModelNotFoundError: there is no such file and no such name; the message has the names that there are.
    """
    path = Path(model)
    if path.is_file():
        return path
    names = built_in()
    if str(model) not in names:
        raise ModelNotFoundError(
            f"there is no model file {model}: give the path of a file that fashion-infer wrote, or a built-in name "
            f"({', '.join(names)})"
        )
    return FOLDER / f"{model}.onnx"


def shipped_sha256(path: Path) -> str | None:
    """The sha256 that the file of a built-in model was shipped with; None for any other file."""
    if path.parent != FOLDER or (facts := built_in().get(path.stem)) is None:
        return None
    return facts.sha256


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
