"""The outside services, behind the ports of ``app.services.ports``."""
