"""POST /webhooks/adyen: verify, store, acknowledge. Nothing else happens here.

This is a WSGI application of its own in front of the web framework, since it is the one route whose
speed counts: it reads a body, and writes three headers. Everything else goes through to Flask.
"""

from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from gunicorn.http.errors import ParseException
from werkzeug import Response
from werkzeug.exceptions import MethodNotAllowed, RequestEntityTooLarge

from app.errors import MalformedRequest, WebhookRefused
from app.persistence.tables import Scheme
from webhooks import notifications, platform, signatures
from webhooks.inbox import Inbox, Verified
from webhooks.keyring import Keyring, SenderAccount
from webhooks.refusals import Refusals

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: What the PSP has accepted since its first receivers; any 2xx would do (psp-webhooks.md section
#: 4).
ACCEPTED = b"[accepted]"

ROUTES = MappingProxyType(
    {"/webhooks/adyen": Scheme.ITEM, "/webhooks/adyen/platform": Scheme.HEADER}
)


class Receiver:
    """The webhook routes."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        keyring: Keyring,
        refusals: Refusals,
        body_bytes_max: int,
        name_request: Callable[[str | None], str],
        problem: Callable[[Exception], Response],
    ) -> None:
        """Wire the receiver.

        Args:
            inbox: Where authentic webhooks go.
            keyring: Who may send.
            refusals: Where the others are kept.
            body_bytes_max: Larger bodies are not read.
            name_request: Returns the request's id, given the caller's, and puts it on log lines.
            problem: Renders an error.
        """
        self._inbox = inbox
        self._keyring = keyring
        self._refusals = refusals
        self._body_bytes_max = body_bytes_max
        self._name_request = name_request
        self._problem = problem

    def in_front_of(self, framework: "WSGIApplication") -> "WSGIApplication":
        """Return an application that answers the webhook routes and passes on all others."""

        def application(
            environ: "WSGIEnvironment", start_response: "StartResponse"
        ) -> Iterable[bytes]:
            scheme = ROUTES.get(environ["PATH_INFO"])
            if scheme is None:
                return framework(environ, start_response)
            return self._answer(scheme, environ, start_response)

        return application

    def _answer(
        self, scheme: Scheme, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        request_id = self._name_request(environ.get("HTTP_X_REQUEST_ID"))
        try:
            if environ["REQUEST_METHOD"] != "POST":
                raise MethodNotAllowed(["POST"])  # noqa: TRY301  # rendered like all others
            self._receive(scheme, environ)
        except Exception as error:  # noqa: BLE001  # every error has its answer, told by problem()
            answer = self._problem(error)
            answer.headers["X-Request-ID"] = request_id
            return answer(environ, start_response)
        start_response(
            "200 OK",
            [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(ACCEPTED))),
                ("X-Request-ID", request_id),
            ],
        )
        return [ACCEPTED]

    def _receive(self, scheme: Scheme, environ: "WSGIEnvironment") -> None:
        """Store what is authentic: new, duplicate, unknown or unprocessable.

        The PSP's queue is oldest first and blocking, so an authentic webhook is never refused for
        what it says: one that we do not understand is parked by the drain.
        """
        body = _read(environ, self._body_bytes_max)
        signature = environ.get("HTTP_HMACSIGNATURE")
        try:
            items = self._verify(scheme, body, signature, environ.get("HTTP_AUTHORIZATION"))
        except WebhookRefused as refusal:
            self._refusals.keep(
                refusal,
                body=body,
                scheme=scheme,
                header_signature=signature,
                remote_address=environ.get("REMOTE_ADDR"),
            )
            raise
        self._inbox.store(body, items)

    def _verify(
        self, scheme: Scheme, body: bytes, signature: str | None, authorization: str | None
    ) -> list[Verified]:
        if scheme is Scheme.HEADER:
            return self._verify_body(body, signature, authorization)
        return [self._verify_item(item, authorization) for item in notifications.parse(body)]

    def _verify_item(self, item: notifications.Notification, authorization: str | None) -> Verified:
        """Verify one item: a valid first item says nothing about the second."""
        account = self._keyring.account(item.merchant_account)
        message = signatures.signing_string(item.signed_values)
        key_id, *_ = signatures.verify(message, item.signature, account.keys)
        account.check_basic(authorization)  # last: who can't sign learns nothing of the password
        return Verified(item, key_id)

    def _verify_body(
        self, body: bytes, signature: str | None, authorization: str | None
    ) -> list[Verified]:
        """Verify the raw bytes under every account's keys, before anything of them is read."""
        signers: dict[str, tuple[SenderAccount, UUID]] = {}
        for account, key_id in signatures.verify(body, signature, self._everybodys_keys()):
            signers.setdefault(account.merchant_account, (account, key_id))
        verified = []
        for item in platform.parse(body, signers):
            account, key_id = signers[item.merchant_account]
            account.check_basic(authorization)
            verified.append(Verified(item, key_id, Scheme.HEADER))
        return verified

    def _everybodys_keys(self) -> Iterator[tuple[tuple[SenderAccount, UUID], bytes]]:
        """Yield every live key; nobody is looked up before the first is asked for."""
        for account in self._keyring.everyone():
            for key_id, key in account.keys:
                yield (account, key_id), key


def _read(environ: "WSGIEnvironment", limit: int) -> bytes:
    """Read the body.

    Raises:
        RequestEntityTooLarge: It is over ``limit``; of a body that does not tell its length, so
            much is read before we know.
        MalformedRequest: It ends before its end, or its chunks are broken.
    """
    given = environ.get("CONTENT_LENGTH")
    if not given and not environ.get("wsgi.input_terminated"):
        return b""
    length = int(given) if given else limit + 1
    if given and length > limit:
        raise RequestEntityTooLarge
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except (OSError, ParseException):  # the server's words for a body that breaks off
        raise MalformedRequest from None
    if len(body) > limit:
        raise RequestEntityTooLarge
    if given and len(body) < length:
        raise MalformedRequest
    return body
