"""The ``countersign`` command: its groups, and the one place that turns errors into exit codes."""

import importlib
import logging
import sys
from collections.abc import Mapping
from types import MappingProxyType

import click

from app.errors import CountersignError

#: Which module holds which command. A command's module is imported when it is called, so that the
#: start of one process does not pay for the others.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "up": ("app.cli.serving", "Run the whole service on this machine."),
        "web": ("app.cli.serving", "Serve HTTP: webhooks, the merchant API."),
        "worker": ("app.cli.serving", "Drain the inbox and run due sagas."),
        "migrate": ("app.cli.serving", "Bring the database to the newest schema."),
        "doctor": ("app.cli.doctor", "Check settings, stores, schema and keys."),
        "merchant": ("app.cli.accounts", "Merchant accounts and their HMAC keys."),
        "api-key": ("app.cli.accounts", "API keys of the merchant API."),
        "webhook": ("app.cli.webhooks", "Send a signed test webhook; explain refused ones."),
        "inbox": ("app.cli.inbox", "The stored webhooks: list, show, apply again."),
        "psp-queue": ("app.cli.psp_queue", "Does the PSP get through, or do we block its queue?"),
        "fraud": ("app.cli.fraud", "Whom the built-in fraud rules refuse."),
        "payment": ("app.cli.payments", "Show a payment; resume, skip, force or abandon it."),
        "review": ("app.cli.operations", "The payments that wait for a person."),
        "audit": ("app.cli.operations", "What people did by hand, and why."),
        "states": ("app.cli.payments", "Draw the transition table."),
        "verify": ("app.cli.payments", "Rebuild every payment from its events and compare."),
        "retention": ("app.cli.retention", "Delete what is older than its horizon."),
        "reconcile": ("app.cli.reconcile", "Find what is stuck; list the breaks."),
    }
)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (_module, what) in COMMANDS.items()])


@click.group(cls=_Commands)
def countersign() -> None:
    """Countersign: payment webhooks ingested once, payments that finish, books that agree."""


def main() -> None:
    """Run the command line. Exit codes: contract.md section 6."""
    logging.captureWarnings(capture=True)
    try:
        countersign.main(standalone_mode=True)
    except CountersignError as error:
        click.echo(f"countersign: {_message(error)}", err=True)
        sys.exit(1)
    except Exception as error:  # the process boundary
        from app.persistence.engine import is_unavailable  # noqa: PLC0415  # slow to import

        if is_unavailable(error):
            click.echo("countersign: the database can't be reached; is it running?", err=True)
            sys.exit(1)
        logging.getLogger(__name__).exception("unforeseen error")
        click.echo(f"countersign: unforeseen error: {type(error).__name__}", err=True)
        sys.exit(1)


def _message(error: CountersignError) -> str:
    title = (type(error).__doc__ or "").splitlines()[0]
    detail = str(error)
    return f"{title} {detail}" if detail else title
