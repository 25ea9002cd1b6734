"""Photos that a gallery has rows of but that are no longer at their path."""

from collections.abc import Iterable
from typing import NamedTuple

from fashion_infer.gallery.rows import path_of_text, text_of_path
from fashion_infer.gallery.store import Store


class Gone(NamedTuple):
    """A row whose photo is no longer at its `path`; `now` is another path of the same file in the gallery, or None."""

    id: str
    path: str
    now: str | None


def gone(store: Store, folders: Iterable[str]) -> list[Gone]:
    """Return the rows whose photos were in these folders and were deleted, moved or renamed.

    Args:
        store: the gallery's store.
        folders: paths of folders as they were passed to `index`; rows of other folders are ignored.
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
