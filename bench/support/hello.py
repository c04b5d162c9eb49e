"""The limit: a Flask route that does nothing, under the same gunicorn settings."""

from flask import Flask, request

application = Flask(__name__)


@application.post("/hello")
def hello() -> str:
    """Read the body and answer."""
    request.get_data(cache=False)
    return "[accepted]"
