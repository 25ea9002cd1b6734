"""The reference of the commands, made from their --help: `python docs/commands.py docs/reference/commands.md`."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from fashion_infer.cli import app

HEAD = """# Commands

Made from the texts of `--help`. `fashion-infer` and `python -m fashion_infer` are the same.
`fashion-infer --install-completion` teaches the shell to complete commands, options and the names of models.

Exit codes: 0 fine; 1 a check failed; 2 usage, or no such model; 3 a model, device or package that cannot be used;
4 images that could not be used (the others are done). See [errors](../errors/index.md).
"""


def main(output: Path) -> None:
    """Write the page."""
    root = typer.main.get_command(app)
    sections = [section("fashion-infer", root), *(section(name, command) for name, command in commands(root))]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join([HEAD, *sections]))


def commands(group: Any, before: str = "fashion-infer") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups among them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def section(name: str, command: Any) -> str:
    """A heading, the command's help, and a table of its arguments and options."""
    text, _, examples = inspect.cleandoc(command.help or "").partition("\nExample")
    lines = [line.strip() for line in examples.splitlines()[1:] if line.strip()]
    shown = ["", "```console", *lines, "```"] if lines else []
    rows = [row(parameter) for parameter in command.params if parameter.name != "help"]
    table = ["", "| argument or option | what it does | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name}", "", text.strip(), *shown, *table, ""])


def row(parameter: Any) -> str:
    """One line of the table."""
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    is_plain = isinstance(parameter.default, str | int | float | Path) and not isinstance(parameter.default, bool)
    default = f"`{parameter.default}`" if is_plain and str(parameter.default) else ""
    return f"| {names} | {(parameter.help or '').replace('|', '&#124;')} | {default} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
