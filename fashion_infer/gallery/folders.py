"""Photos that a gallery knows and that are no longer where they were."""

from collections.abc import Iterable
from typing import NamedTuple

from fashion_infer.gallery.rows import path_of_text, text_of_path
from fashion_infer.gallery.store import Store


class Gone(NamedTuple):
    """A row whose photo is no longer there; `now` is the path of the same photo, where the gallery has it."""

    id: str
    path: str
    now: str | None


def gone(store: Store, folders: Iterable[str]) -> list[Gone]:
    """The rows whose photos lay in these folders and are not there any more, vanished or renamed.

    Args:
        store: of the gallery.
        folders: paths as they were given to `index`; rows that were added from elsewhere are left alone.
    """
    prefixes = tuple(text_of_path(folder).rstrip("/") + "/" for folder in folders)
    missing: list[tuple[str, str, str]] = []
    present: dict[str, str] = {}
    for id, path, content_hash in store.paths():
        if path is None:
            continue
        if not path.startswith(prefixes) or path_of_text(path).exists():
            present[content_hash] = path
        else:
            missing.append((id, path, content_hash))
    return [Gone(id, path, present.get(content_hash)) for id, path, content_hash in missing]
