"""The fraud rules that are built in."""

from app.domain.saga import Command, Reply


class FraudRules:
    """Refuses what the rules name; accepts all else."""

    def handle(self, command: Command) -> Reply:  # noqa: ARG002
        """Carry out a command; see ``Participant``."""
        return Reply(success=True, data={"decision": "accept"})
