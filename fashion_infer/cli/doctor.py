"""The command `fashion-infer doctor`."""

import json

import typer
from rich.table import Table

from fashion_infer.cli.shared import Json, out
from fashion_infer.doctor import PACKAGES, backends, conflicts, cpu, installed
from fashion_infer.errors import MissingExtraError


def doctor(as_json: Json = False) -> None:
    """Show the installed packages, the CPU's support for int8, and which backends work. Exit code 3 if none does.

    Example:

        fashion-infer doctor
    """
    packages, statuses, clashes = installed(), backends(), conflicts()
    if as_json:
        backend_facts = [vars(status) for status in statuses]
        typer.echo(json.dumps({"cpu": cpu(), "installed": packages, "backends": backend_facts, "conflicts": clashes}))
    else:
        versions = Table("package", "version", "extra")
        for name, version in packages.items():
            versions.add_row(name, version or "-", PACKAGES.get(name, ""))
        working = Table("backend", "works", "detail")
        for status in statuses:
            working.add_row(status.name, "yes" if status.works else "no", status.detail)
        out.print(versions, working, cpu(), *clashes)
    if not any(status.works for status in statuses):
        raise MissingExtraError('no backend works here: pip install "fashion-infer[cpu]"')
