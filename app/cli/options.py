"""Options and arguments that several commands share."""

import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

import click

from app.bootstrap import Container
from app.domain.operators import Grounds
from app.errors import InvalidFields
from app.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

account_option = click.option("--merchant-account", help="Only this merchant account.")


def grounds_options(
    *, default_reason: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add ``--reason`` and ``--by``: why something is done by hand, and who does it.

    Args:
        default_reason: The reason of whoever gives none; None to insist on one.
    """
    help_ = "Why. It is kept for ever."
    reason_option = (
        click.option("--reason", required=True, help=help_)
        if default_reason is None
        else click.option("--reason", default=default_reason, show_default=True, help=help_)
    )
    by_option = click.option(
        "--by", metavar="NAME", help="Who does it; the user who is logged in if not given."
    )

    def add(command: Callable[P, R]) -> Callable[P, R]:
        return reason_option(by_option(command))

    return add


def grounds_of(reason: str, by: str | None) -> Grounds:
    """Return who acts and why, or fail as a usage error."""
    if by is None:
        try:
            by = getpass.getuser()
        except (OSError, KeyError):
            raise click.UsageError("nobody is logged in by name: give --by") from None
    try:
        return Grounds(by.strip(), reason.strip())
    except InvalidFields as error:
        raise click.UsageError(
            "; ".join(f"--{name} {what}" for name, what in error.problems.items())
        ) from None


class Instant(click.ParamType[datetime]):
    """A point in time: RFC 3339; without an offset it is UTC."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read the time, or fail as a usage error."""
        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-20T09:00:00Z", param, ctx)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def container(role: str = "cli") -> Container:
    """Wire up from the environment, or from the running instance's ``up.env``."""
    return Container(Settings.load(), role=role)
