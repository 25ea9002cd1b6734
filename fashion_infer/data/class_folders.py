"""A user's own categories: a folder of class folders. Each has the name of a class and holds photos of it.

own/
  Shoes/  a.jpg  b.jpg
  Hat/    c.jpg
"""

import logging
import unicodedata
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from fashion_infer.data.annotations import SPLITS
from fashion_infer.data.columns import build
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError
from fashion_infer.inputs import expand_inputs

MAX_CLASSES = 1000  # more folders are usually those of products, each with a few photos

logger = logging.getLogger("fashion_infer")


def read_class_folders(root: Path) -> FashionData:
    """Read a folder of class folders. Each folder is a category; photos have no boxes and are in the split train.

    Names are normalised to Unicode's composed form, because systems write the same letters in different forms. Hidden
    folders, such as `.ipynb_checkpoints`, are left out. Photos in subfolders of a class folder belong to the class.
    Warnings are logged about subfolders and about files that are left out.

    Args:
        root: the folder.

    Raises:
        DataError: there is no such folder, it has no class folders or more than `MAX_CLASSES`, or a class folder holds
            no photos, holds only subfolders of photos, or has the same name as another one.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name))
    if not folders:
        raise DataError(f"{root} holds no class folders: put the photos of each class into a folder of its name")
    if len(folders) > MAX_CLASSES:
        raise DataError(
            f"{root} holds {len(folders)} folders, and at most {MAX_CLASSES} classes can be taught: folders of "
            f"products are for a gallery instead, fashion-infer index shop.gallery {root}"
        )
    _check_names(folders)
    if beside := [path.name for path in root.iterdir() if path.is_file() and not _is_hidden(path.name)]:
        logger.warning("%s: %d files beside the class folders are left out, as %s", root, len(beside), min(beside))
    photos = {folder: _photos_of(folder) for folder in folders}
    if empty := [folder.name for folder, paths in photos.items() if not paths]:
        raise DataError(f"{root}: no photo in the class folders {', '.join(empty[:5])}: add some, or remove the folder")
    names = [str(path.relative_to(root)) for paths in photos.values() for path in paths]
    data = build(
        root,
        names,
        splits=np.full(len(names), SPLITS.index("train")),
        boxes=None,
        landmarks=None,
        categories=np.repeat(np.arange(len(folders)), [len(paths) for paths in photos.values()]),
        category_names=tuple(class_name(folder.name) for folder in folders),
    )
    return replace(data, image_root=root)


def class_name(folder: str) -> str:
    """The name of a class: the folder's name in Unicode's composed form, without spaces around it."""
    return unicodedata.normalize("NFC", folder).strip()


def _is_hidden(name: str) -> bool:
    """Whether a program left this folder or file behind, such as .DS_Store, __MACOSX, @eaDir or Thumbs.db."""
    return name.startswith((".", "__", "@")) or name == "Thumbs.db"


def _check_names(folders: list[Path]) -> None:
    alike = defaultdict(list)
    for folder in folders:
        alike[class_name(folder.name).casefold()].append(folder.name)
    for names in alike.values():
        if len(names) > 1:
            raise DataError(
                f"the class folders {' and '.join(map(repr, names))} have the same name: join or rename them"
            )


def _photos_of(folder: Path) -> list[Path]:
    """The photos in a class folder and its subfolders.

    Raises:
        DataError: there are photos in subfolders only.
    """
    paths = [Path(path) for path in expand_inputs([str(folder)]).paths]
    paths = [path for path in paths if not any(map(_is_hidden, path.relative_to(folder).parts))]
    nested = sorted({path.relative_to(folder).parts[0] for path in paths if path.parent != folder})
    if nested and all(path.parent != folder for path in paths):
        raise DataError(
            f"{folder} holds no photos, but folders of photos ({', '.join(nested[:5])}): if those are the classes, "
            f"give --data {folder}"
        )
    if nested:
        logger.warning("%s: photos in its folders (%s) count as %s", folder, ", ".join(nested[:5]), folder.name)
    return paths


def read_photos(folder: Path) -> FashionData:
    """Read the photos in a folder and its subfolders, without boxes or labels; all are in the split train.

    Raises:
        DataError: there is no such folder, or it holds no photo.
    """
    paths = expand_inputs([str(folder)]).paths if folder.is_dir() else []
    paths = [path for path in paths if not any(map(_is_hidden, Path(path).relative_to(folder).parts))]
    if not paths:
        raise DataError(f"{folder} is no folder with photos")
    names = [str(Path(path).relative_to(folder)) for path in paths]
    splits = np.full(len(names), SPLITS.index("train"))
    return replace(build(folder, names, splits=splits, boxes=None, landmarks=None), image_root=folder)
