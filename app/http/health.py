"""Is the process alive, and can it serve?"""

from http import HTTPStatus

from flask import Blueprint, Response, jsonify
from redis import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.persistence.seen import SeenCache


def create_blueprint(engine: Engine, seen: SeenCache) -> Blueprint:
    """Build the health routes."""
    blueprint = Blueprint("health", __name__, url_prefix="/health")

    @blueprint.get("/live")
    def live() -> Response:
        return jsonify({"status": "ok"})

    @blueprint.get("/ready")
    def ready() -> tuple[Response, HTTPStatus]:
        """Redis may be away: that costs speed, so it is told and does not count."""
        checks = {"postgres": _postgres(engine), "redis": _redis(seen)}
        is_ready = checks["postgres"] == "ok"
        answer = {"status": "ok" if is_ready else "unavailable", "checks": checks}
        return jsonify(answer), HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE

    return blueprint


def _postgres(engine: Engine) -> str:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return f"unavailable: {type(error).__name__}"
    return "ok"


def _redis(seen: SeenCache) -> str:
    try:
        seen.ping()
    except RedisError as error:
        return f"unavailable: {type(error).__name__}; running without it"
    return "ok"
