"""Options and arguments that several commands share."""

from datetime import UTC, datetime

import click

from app.bootstrap import Container
from app.settings import Settings

account_option = click.option("--merchant-account", help="Only this merchant account.")


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
