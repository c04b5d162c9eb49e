"""Verify and enqueue: the same route in Flask, which hands the body to Celery on Redis.

An acknowledged webhook is then in the memory of Redis only, and a duplicate is another task. No
worker runs: what is measured is how fast tasks are taken in.
"""

from importlib import import_module
from typing import Any

from flask import Flask, request

from app.bootstrap import Container
from app.settings import Settings
from bench.support.traffic import PATH
from bench.support.verified import KEYRING_CONNECTIONS, verified_rows

#: Celery's name for its default queue, a list in Redis.
QUEUE = "celery"


def build() -> Flask:
    """Build the application, from the environment; the broker is its Redis."""
    settings = Settings.load()
    container = Container(settings, role="enqueue", pool_size=KEYRING_CONNECTIONS)
    # Imported by name: it is a package of the benchmarks only, and has no types.
    celery: Any = import_module("celery")
    tasks = celery.Celery("bench", broker=_broker(settings.redis_url.get_secret_value()))
    task = tasks.task(_apply, name="apply", ignore_result=True)
    application = Flask(__name__)

    @application.post(PATH)
    def receive() -> str:
        body = request.get_data(cache=False)
        verified_rows(container, body, request.headers.get("Authorization"))
        task.delay(body.decode())
        return "[accepted]"

    return application


def _apply(_body: str) -> None:
    """Stand for the work that a worker would do."""


def _broker(redis_url: str) -> str:
    """Return the URL as Celery spells it."""
    return redis_url.replace("unix://", "redis+socket://", 1)
