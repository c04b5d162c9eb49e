"""``up``, ``web``, ``worker`` and ``migrate``: the processes."""

import logging
from pathlib import Path

import click

from app import failpoints
from app.settings import Settings, horizon_warnings, process_environment


@click.command()
@click.option("--port", type=click.IntRange(1, 65534), default=8000, show_default=True)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where everything is kept.  [default: COUNTERSIGN_HOME or var]",
)
@click.option("--no-simulator", is_flag=True, help="The settings name a real PSP.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Web processes."
)
def up(port: int, home: Path | None, workers: int, *, no_simulator: bool) -> None:
    """Run the whole service on this machine: stores, web, worker, simulator (on port+1).

    Uses DATABASE_URL and REDIS_URL if they are set, else a Postgres and a Redis of its own below
    the home. Prints a line that starts with `ready` when it can serve. Ctrl-C stops everything.
    """
    from app.instance import Instance  # noqa: PLC0415  # needs the extra `embedded`

    chosen = home or Path(process_environment().get("COUNTERSIGN_HOME") or "var")
    Instance(
        home=chosen,
        port=port,
        with_simulator=not no_simulator,
        workers=workers,
        say=lambda line: click.echo(line, err=True),
    ).run()


@click.command()
def web() -> None:
    """Serve HTTP with gunicorn."""
    from gevent import monkey  # noqa: PLC0415  # only this process needs it

    monkey.patch_all()  # type: ignore[no-untyped-call]  # before what it patches is imported by anything that keeps it
    from app.server import serve  # noqa: PLC0415

    _arm_failpoints()
    serve(Settings.load())


@click.command()
def worker() -> None:
    """Drain the inbox and run due sagas, until SIGTERM. Any number may run, on any hosts."""
    from app.bootstrap import Container  # noqa: PLC0415  # only this process needs it
    from app.logs import configure_logs  # noqa: PLC0415
    from app.worker import Worker, metrics_served  # noqa: PLC0415

    _arm_failpoints()
    configure_logs("worker")
    settings = Settings.load()
    for warning in horizon_warnings(settings):
        logging.getLogger(__name__).warning(warning)
    wired = Container(settings, role="worker", pool_size=4)
    with metrics_served(settings.worker_metrics_listen, wired.registry):
        Worker(wired).run()


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema. Safe on several hosts at once."""
    from migrations import upgrade  # noqa: PLC0415  # alembic is slow to import

    upgrade(Settings.load().database_url.get_secret_value())
    click.echo("the schema is the newest", err=True)


def _arm_failpoints() -> None:
    failpoints.arm_from_text(process_environment().get("COUNTERSIGN_FAILPOINTS", ""))
