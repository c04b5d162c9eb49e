"""One HTTP call behind its guard, and every failure of it as one of our errors."""

import re
from collections.abc import Mapping
from copy import copy
from http import HTTPStatus

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from app.errors import (
    GatewayError,
    GatewayInProgress,
    GatewayNotAsked,
    GatewayOverloaded,
    GatewayRejected,
    GatewayTimeout,
    GatewayUnavailable,
)
from app.gateways.deadline import DeadlineTransport, total_deadline
from app.gateways.resilience import Guard

#: An answer larger than this is no answer of a service that we know.
ANSWER_BYTES_MAX = 256 * 1024

#: "Request already processed or in progress" (psp-webhooks.md section 6).
IN_PROGRESS = "704"

#: What an error keeps of a refusal's body; ``message`` may repeat what we sent, so it stays out.
_KEPT_FIELDS = ("errorCode", "errorType", "pspReference")

_WORD = re.compile(r"[A-Za-z0-9_]{1,40}")

_ANSWER = TypeAdapter(dict[str, JsonValue])

Answer = Mapping[str, JsonValue]


class HttpGateway:
    """Posts JSON to one service, with one pool of connections. Thread-safe."""

    def __init__(
        self, name: str, base_url: str, *, headers: Mapping[str, str], guard: Guard
    ) -> None:
        """Address the service.

        Args:
            name: What errors call it.
            base_url: Paths are appended to it.
            headers: Sent with every call: the credentials.
            guard: Bounds, tries again and breaks off calls.
        """
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._guard = guard
        self._client = httpx2.Client(
            headers=dict(headers), follow_redirects=False, transport=DeadlineTransport()
        )

    def behind(self, guard: Guard) -> "HttpGateway":
        """Return the same service, on the same connections, behind another guard."""
        other = copy(self)
        other._guard = guard  # noqa: SLF001  # its own class
        return other

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        idempotency_key: str,
        also_answers: frozenset[int] = frozenset(),
    ) -> tuple[int, Answer]:
        """Post ``body`` and return the status and the JSON object of the answer.

        Within the call's time a blip is tried again, under the same key.

        Args:
            path: Below the base URL.
            body: JSON values.
            idempotency_key: Sent as ``Idempotency-Key``: the same key never acts twice.
            also_answers: Statuses of 400 and above that are answers here, not failures.

        Raises:
            GatewayRejected: The service refuses the request (4xx); nothing happened there.
            GatewayNotAsked: No request left: it can't be connected to, or is left alone for now.
            GatewayInProgress: It is at work on an earlier request under this key.
            GatewayOverloaded: It asks us to wait (429, or ``Retry-After``).
            GatewayUnavailable: It can't take the request now (5xx), or its answer is none.
            GatewayTimeout: No answer within the deadline; the outcome is unknown.
        """
        return self._guard.call(
            lambda seconds: self._send(path, body, idempotency_key, also_answers, seconds)
        )

    def _send(
        self,
        path: str,
        body: Mapping[str, object],
        idempotency_key: str,
        also_answers: frozenset[int],
        seconds: float,
    ) -> tuple[int, Answer]:
        try:
            with (
                total_deadline(seconds),
                self._client.stream(
                    "POST",
                    self._base_url + path,
                    json=dict(body),
                    headers={"Idempotency-Key": idempotency_key},
                    timeout=seconds,
                ) as response,
            ):
                content = self._read(response)
        except httpx2.HTTPError as error:
            raise self._translated(error) from error
        except httpx2.InvalidURL:
            raise GatewayNotAsked(f"{self._name}: its address is not a URL") from None
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES and (
            response.status_code not in also_answers
        ):
            raise self._failure(response, content)
        return response.status_code, self._parse(content)

    def _read(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > ANSWER_BYTES_MAX:
                raise GatewayUnavailable(f"{self._name}: the answer is too large")
        return bytes(content)

    def _failure(self, response: httpx2.Response, content: bytes) -> GatewayError:
        """Tell what an answer means that is none."""
        status, evidence = response.status_code, _evidence(content)
        what = f"{self._name}: {status}"
        if evidence:
            what += f" ({', '.join(f'{name} {word}' for name, word in evidence.items())})"
        if evidence.get("errorCode") == IN_PROGRESS:
            return GatewayInProgress(what)
        if status == HTTPStatus.TOO_MANY_REQUESTS or "retry-after" in response.headers:
            return GatewayOverloaded(what)
        # A refusal may say that it is transient (psp-webhooks.md section 6).
        is_transient = response.headers.get("transient-error") == "true"
        is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_client_error and not is_transient and status != HTTPStatus.REQUEST_TIMEOUT:
            return GatewayRejected(what)
        return GatewayUnavailable(what)

    def _parse(self, content: bytes) -> Answer:
        try:
            return _ANSWER.validate_json(content)
        except ValidationError:
            raise GatewayUnavailable(f"{self._name}: the answer is not a JSON object") from None

    def _translated(self, error: httpx2.HTTPError) -> GatewayTimeout | GatewayNotAsked:
        """Only a request that never left is known to have done nothing."""
        never_left = (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.UnsupportedProtocol,
        )
        if isinstance(error, never_left):
            return GatewayNotAsked(f"{self._name}: can't be connected to")
        return GatewayTimeout(f"{self._name}: no answer ({type(error).__name__})")


def _evidence(content: bytes) -> Mapping[str, str]:
    """Read what identifies a refusal from its body; what is not one plain word is left out."""
    try:
        fields = _ANSWER.validate_json(content)
    except ValidationError:
        return {}
    return {
        name: word
        for name in _KEPT_FIELDS
        if isinstance(word := fields.get(name), str) and _WORD.fullmatch(word)
    }
