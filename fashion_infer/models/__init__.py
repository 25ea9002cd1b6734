"""The built-in models: one .onnx file each, beside this module, and their descriptions in `built_in.json`.

`python -m fashion_infer.export.built_in` adds or replaces a model.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_infer.errors import ModelNotFoundError, UsageError

FOLDER = Path(__file__).parent
LIST = FOLDER / "built_in.json"


@dataclass(frozen=True)
class BuiltIn:
    """A model that comes with the package.

    Attributes:
        about: A description in one sentence.
        licence: The licence of the weights.
        precision: fp32 or int8.
        image_size: Side of the network's square input, pixels.
        categories: Names of the categories.
        attributes: Names of the attributes.
        bytes: Size of the file.
        sha256: SHA-256 of the file, in hexadecimal.
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
    """Return the models that come with the package, by name."""
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    return {name: BuiltIn(**{key: _tuple(value) for key, value in facts.items()}) for name, facts in listed.items()}


def find_model(model: str | os.PathLike[str]) -> Path:
    """Return the file of a model. The model is a path or a built-in name; a file with that name comes first.

    Raises:
        ModelNotFoundError: There is no such file and no such built-in model; the message lists the built-in names.
        UsageError: The model is neither a path nor a name.
    """
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"a model is a path or a name, not a {type(model).__name__}")
    if os.path.isfile(model):  # noqa: PTH113 the method of Path raises on long names
        return Path(os.fsdecode(model))
    names = built_in()
    if str(model) not in names:
        raise ModelNotFoundError(
            f"there is no model file {model}: give the path of a file that fashion-infer wrote, or a built-in name "
            f"({', '.join(names)})"
        )
    return FOLDER / f"{model}.onnx"


def shipped_sha256(path: Path) -> str | None:
    """Return the SHA-256 that a built-in model was shipped with; None for any other file."""
    if path.parent != FOLDER or (facts := built_in().get(path.stem)) is None:
        return None
    return facts.sha256


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
