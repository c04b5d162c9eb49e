"""The front page: where things are. Replaced by the console's pages as they come."""

from flask import Blueprint, Response


def create_blueprint() -> Blueprint:
    """Build the front page."""
    blueprint = Blueprint("front", __name__)

    @blueprint.get("/")
    def front() -> Response:
        return Response("countersign", mimetype="text/plain")

    return blueprint
