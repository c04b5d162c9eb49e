"""The confirmation mail."""

from app.domain.saga import Command, Reply
from app.gateways.mail_message import Unsendable, compose
from app.gateways.smtp import SmtpServer


class SmtpMailGateway:
    """Sends mails, each once: at most once wherever that can be known, else at least once.

    A mail is known by its Message-ID, which follows from payment and template. The saga sends it
    until the server has said that it took it, and then never again. If the server does not say, or
    this process dies between the server's word and our commit, the saga sends the same bytes under
    the same Message-ID once more: servers and readers may show them once, and SMTP has no way to
    ask. See ``app.gateways.smtp`` for how short that stretch is.
    """

    def __init__(self, server: SmtpServer, *, sender: str) -> None:
        """Send through ``server``, from ``sender``: an address, with or without a name."""
        self._server = server
        self._sender = sender

    def handle(self, command: Command) -> Reply:
        """Carry out a command; see ``Participant``."""
        try:
            mail = compose(command, sender=self._sender)
        except Unsendable as error:
            return Reply(success=False, data={"unsendable": str(error)})
        refusal = self._server.send(mail)
        if refusal is None:
            return Reply(success=True, data={"message_id": mail.message_id})
        evidence = {"smtp_code": refusal.code, "refused_at": refusal.at}
        if refusal.status:
            evidence["smtp_status"] = refusal.status
        return Reply(success=False, data=evidence)
