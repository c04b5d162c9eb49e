"""One HTTP call with a total deadline, and every failure of it as one of our errors."""

from collections.abc import Mapping
from http import HTTPStatus

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from app.errors import GatewayRejected, GatewayTimeout, GatewayUnavailable
from app.gateways.deadline import DeadlineTransport, total_deadline

#: An answer larger than this is no answer of a service that we know.
ANSWER_BYTES_MAX = 256 * 1024

_ANSWER = TypeAdapter(dict[str, JsonValue])

Answer = Mapping[str, JsonValue]


class HttpGateway:
    """Posts JSON to one service, with one pool of connections. Thread-safe."""

    def __init__(
        self, name: str, base_url: str, *, headers: Mapping[str, str], timeout_seconds: int
    ) -> None:
        """Address the service.

        Args:
            name: What errors and logs call it.
            base_url: Paths are appended to it.
            headers: Sent with every call: the credentials.
            timeout_seconds: Total time of one call.
        """
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._client = httpx2.Client(
            headers=dict(headers), follow_redirects=False, transport=DeadlineTransport()
        )

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        idempotency_key: str,
        also_answers: frozenset[int] = frozenset(),
    ) -> tuple[int, Answer]:
        """Post ``body`` and return the status and the JSON object of the answer.

        Args:
            path: Below the base URL.
            body: JSON values.
            idempotency_key: Sent as ``Idempotency-Key``.
            also_answers: Statuses of 400 and above that are answers here, not failures.

        Raises:
            GatewayRejected: The service refuses the request (4xx); nothing happened there.
            GatewayUnavailable: It can't take the request now (5xx, 429), or can't be connected to.
            GatewayTimeout: No answer within the deadline; the outcome is unknown.
        """
        try:
            with (
                total_deadline(self._timeout_seconds),
                self._client.stream(
                    "POST",
                    self._base_url + path,
                    json=dict(body),
                    headers={"Idempotency-Key": idempotency_key},
                    timeout=self._timeout_seconds,
                ) as response,
            ):
                content = self._read(response)
        except httpx2.HTTPError as error:
            raise self._translated(error) from error
        except httpx2.InvalidURL:
            raise GatewayUnavailable(f"{self._name}: its address is not a URL") from None
        self._check_status(response, content, also_answers)
        return response.status_code, self._parse(content)

    def _read(self, response: httpx2.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > ANSWER_BYTES_MAX:
                raise GatewayUnavailable(f"{self._name}: the answer is too large")
        return bytes(content)

    def _check_status(
        self, response: httpx2.Response, content: bytes, also_answers: frozenset[int]
    ) -> None:
        status = response.status_code
        if status in also_answers or status < HTTPStatus.MULTIPLE_CHOICES:
            return
        what = f"{self._name}: {status}{self._error_code(content)}"
        # A request in flight under the same key answers 4xx and says that it is transient
        # (psp-webhooks.md section 6, error 704).
        is_transient = response.headers.get("transient-error") == "true"
        is_busy = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}
        is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_client_error and not is_transient and not is_busy:
            raise GatewayRejected(what)
        raise GatewayUnavailable(what)

    def _parse(self, content: bytes) -> Answer:
        try:
            return _ANSWER.validate_json(content)
        except ValidationError:
            raise GatewayUnavailable(f"{self._name}: the answer is not a JSON object") from None

    @staticmethod
    def _error_code(content: bytes) -> str:
        """The service's own error code; its free text may repeat what we sent, so it stays out."""
        try:
            code = _ANSWER.validate_json(content).get("errorCode")
        except ValidationError:
            return ""
        return f" (errorCode {code})" if isinstance(code, str) and code.isalnum() else ""

    def _translated(self, error: httpx2.HTTPError) -> GatewayTimeout | GatewayUnavailable:
        """Only a request that never left is known to have done nothing."""
        never_left = (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.UnsupportedProtocol,
        )
        if isinstance(error, never_left):
            return GatewayUnavailable(f"{self._name}: can't be connected to")
        return GatewayTimeout(f"{self._name}: no answer ({type(error).__name__})")
