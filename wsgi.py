"""The WSGI entry point: ``gunicorn wsgi:application``."""

from app.server import web_application

application = web_application()
