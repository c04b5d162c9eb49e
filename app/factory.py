"""The Flask application factory."""

from functools import partial

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app.bootstrap import Container, new_id
from app.http import commands, health, metrics, operations, payments
from app.http.bodies import register_body_limit
from app.http.console import pages
from app.http.console.filters import register_filters
from app.http.problems import problem_of, register_problem_handlers
from app.http.request_ids import name_request, register_request_ids
from app.http.waiters import Waiters
from app.sagas.recovery import Recovery
from webhooks.receiver import Receiver


def create_app(container: Container) -> Flask:
    """Build the web process's application; no connection is made yet."""
    flask_app = Flask(__name__, static_folder=None)
    flask_app.config["MAX_CONTENT_LENGTH"] = container.settings.body_bytes_max
    flask_app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    register_problem_handlers(flask_app)
    register_body_limit(flask_app)
    register_request_ids(flask_app, new_id)
    flask_app.register_blueprint(
        payments.create_blueprint(
            authenticate=container.accounts.authenticate,
            engine=container.engine,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
            waiters=Waiters(container.engine, waiters_max=container.settings.web_waiters),
        )
    )
    flask_app.register_blueprint(
        commands.create_blueprint(
            authenticate=container.accounts.authenticate,
            unit_of_work=container.unit_of_work,
            clock=container.clock,
            new_id=new_id,
        )
    )
    flask_app.register_blueprint(
        operations.create_blueprint(
            authenticate=container.accounts.authenticate,
            engine=container.engine,
            unit_of_work=container.unit_of_work,
            recovery=Recovery(container.definitions),
            clock=container.clock,
        )
    )
    flask_app.register_blueprint(metrics.create_blueprint(container.engine, container.clock))
    flask_app.register_blueprint(health.create_blueprint(container.engine, container.seen))
    pages.configure_sessions(
        flask_app,
        container.settings.derived_secret("console sessions"),
        is_https=container.settings.public_url.startswith("https:"),
    )
    register_filters(flask_app)
    flask_app.register_blueprint(
        pages.Console(
            authenticate=container.accounts.authenticate,
            find_caller=container.accounts.caller,
            engine=container.engine,
            clock=container.clock,
        ).blueprint()
    )
    receiver = Receiver(
        inbox=container.inbox,
        keyring=container.keyring,
        refusals=container.refusals,
        body_bytes_max=container.settings.body_bytes_max,
        name_request=partial(name_request, new_id=new_id),
        problem=problem_of,
    )
    application = receiver.in_front_of(flask_app.wsgi_app)
    if container.settings.proxies:
        application = ProxyFix(application, x_for=container.settings.proxies, x_proto=0, x_host=0)
    flask_app.wsgi_app = application  # type: ignore[method-assign,assignment]
    return flask_app
