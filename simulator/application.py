"""The Flask application: every outside service in one."""

from flask import Flask

from simulator import booking, fraud, inspection, psp
from simulator.world import World


def create_application(world: World) -> Flask:
    """Return the application of one world; it starts nothing by itself."""
    application = Flask("simulator", static_folder=None)
    for part in (psp, booking, fraud, inspection):
        application.register_blueprint(part.blueprint(world))
    return application
