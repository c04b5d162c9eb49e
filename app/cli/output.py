"""How commands print: tables for people, JSON for programs."""

import json
from collections.abc import Mapping, Sequence

import click

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print a list: as a JSON array, or as a table whose columns are the rows' keys.

    Args:
        rows: Rows of equal keys.
        as_json: Print JSON.
        empty: Said on stderr instead of a table without rows.
    """
    if as_json:
        print_json([{key: _plain(value) for key, value in row.items()} for row in rows])
        return
    if not rows:
        click.echo(empty, err=True)
        return
    header = list(rows[0])
    cells = [[_cell(row[name]) for name in header] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    for line in [header, *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | bool | dict | list | None) else str(value)


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
