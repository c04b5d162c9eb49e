"""The limit: a Flask route that does nothing."""

from flask import Flask, request

from bench.support.traffic import PATH


def build() -> Flask:
    """Build the application: it reads the body and answers."""
    application = Flask(__name__)

    @application.post(PATH)
    def hello() -> str:
        request.get_data(cache=False)
        return "[accepted]"

    return application
