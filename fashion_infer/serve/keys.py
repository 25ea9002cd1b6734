"""The file with the key that every request must send."""

from pathlib import Path

from fashion_infer.errors import UsageError

MIN_KEY = 16  # fewest characters of a key


def read_key(path: Path) -> str:
    """Read the key from a file, without the spaces and line breaks around it.

    Raises:
        UsageError: the file cannot be read, or does not hold one key of at least MIN_KEY visible ASCII characters.
    """
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"{path} must hold one key of at least {MIN_KEY} visible ASCII characters")
    return key
