"""Every error that this service raises on purpose.

    CountersignError
    + RequestError               the caller must change the request            422
      - MalformedRequest           ... because it can't be read at all         400
      - IdempotencyKeyMissing                                                  400
      - UnsupportedContentType                                                 415
      - InvalidFields
      - CardNumberRefused
      - IdempotencyKeyReused
    + AccessError
      - Unauthenticated            no valid API key                            401
      - Forbidden                  the key's role does not reach here          403
    + NotFound                                                                 404
      - PaymentNotFound
      - CommandNotFound
      - NotificationNotFound
      - MerchantAccountNotFound
      - KeyNotFound
      - ReviewNotFound
    + StateError                 the record is not in a state that allows this 409
      - IllegalTransition
      - IdempotencyKeyInFlight     ... yet                                     retryable
      - MerchantReferenceTaken
      - CommandAnswered
      - ExternalPaymentExists      ... any more                                retryable
      - MerchantAccountExists
      - ActionForbidden
      - PaymentChanged
      - DefinitionUnknown          ... to this release
    + WebhookRefused             a notification that we do not trust           401
      - InvalidSignature
      - UnknownMerchantAccount
      - WrongBasicCredentials
      - MalformedNotification      ... or can't read                           400
    + UnclearNotification        a stored webhook does not say what happened    422
    + GatewayError               an outside service failed                     502
      - GatewayRejected            it understood, and refuses the request
      - GatewayUnavailable         it could not take the request now           retryable
        . GatewayNotAsked            ... because the request never left         retryable
        . GatewayInProgress          ... as it is still at the same one         retryable
        . GatewayOverloaded          ... as there are too many                  retryable
      - GatewayTimeout             no answer: the outcome is unknown           504, retryable
    + StoreUnavailable           Postgres can't be written now                 503, retryable
    + InvalidSettings            the process does not start

An error names what happened, never an HTTP status: the worker and the command line raise the same
errors. ``app.http.problems`` owns the statuses. A leaf's first docstring line is the problem title.
"""

from typing import ClassVar


class CountersignError(Exception):
    """The service could not do what was asked.

    Attributes:
        code: Stable snake_case name, part of the public API and of every log line.
        retryable: True if the same call with the same input may succeed later.
    """

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False


class RequestError(CountersignError):
    """The request must be changed before it is sent again."""

    code = "invalid_request"


class MalformedRequest(RequestError):
    """The request body is not readable as JSON."""

    code = "malformed_request"


class IdempotencyKeyMissing(RequestError):
    """The Idempotency-Key header is missing or is not 1 to 64 visible ASCII characters."""

    code = "idempotency_key_missing"


class UnsupportedContentType(RequestError):
    """The body must be sent as application/json."""

    code = "unsupported_content_type"


class InvalidFields(RequestError):
    """One or more fields of the request are not valid."""

    code = "invalid_fields"

    def __init__(self, problems: dict[str, str]) -> None:
        """Name each field by its dotted path, with what is wrong; never with its value."""
        super().__init__("; ".join(f"{path}: {what}" for path, what in problems.items()))
        self.problems = problems


class CardNumberRefused(RequestError):
    """The request holds something that looks like a card number; send a token instead."""

    code = "card_number_refused"

    def __init__(self, path: str) -> None:
        """Name the field, never its value."""
        super().__init__(f"{path} looks like a card number")
        self.path = path


class IdempotencyKeyReused(RequestError):
    """The same Idempotency-Key arrived with another request body."""

    code = "idempotency_key_reused"


class AccessError(CountersignError):
    """The caller may not do this."""

    code = "access_refused"


class Unauthenticated(AccessError):
    """A valid API key is required: Authorization: Bearer <api key>."""

    code = "unauthenticated"


class Forbidden(AccessError):
    """This API key's role does not allow the request."""

    code = "forbidden"


class NotFound(CountersignError):
    """There is no such resource."""

    code = "not_found"


class PaymentNotFound(NotFound):
    """There is no such payment for this merchant account."""

    code = "payment_not_found"


class CommandNotFound(NotFound):
    """There is no such command that this participant could have taken."""

    code = "command_not_found"


class NotificationNotFound(NotFound):
    """There is no stored webhook with this GUID."""

    code = "notification_not_found"


class MerchantAccountNotFound(NotFound):
    """There is no such merchant account."""

    code = "merchant_account_not_found"


class KeyNotFound(NotFound):
    """There is no such key."""

    code = "key_not_found"


class ReviewNotFound(NotFound):
    """This payment waits for nobody: there is no open review."""

    code = "review_not_found"


class StateError(CountersignError):
    """The record is not in a state that allows this."""

    code = "state_conflict"


class IllegalTransition(StateError):
    """The transition table has no row for this state and event."""

    code = "illegal_transition"

    def __init__(self, state: str, event: str) -> None:
        """Name the missing row of the table."""
        super().__init__(f"a payment in {state} cannot take {event}")
        self.state = state
        self.event = event


class IdempotencyKeyInFlight(StateError):
    """A request with this Idempotency-Key is still running; try again shortly."""

    code = "idempotency_key_in_flight"
    retryable = True


class MerchantReferenceTaken(StateError):
    """Another payment of this merchant account has this merchant_reference already."""

    code = "merchant_reference_taken"


class CommandAnswered(StateError):
    """The command was answered before, and otherwise: the first answer stands."""

    code = "command_answered"


class ExternalPaymentExists(StateError):
    """The payment that the PSP reports has just been kept by another worker."""

    code = "external_payment_exists"
    retryable = True


class MerchantAccountExists(StateError):
    """This merchant account is registered already."""

    code = "merchant_account_exists"


class ActionForbidden(StateError):
    """The payment is in a state that forbids this action."""

    code = "action_forbidden"

    def __init__(self, action: str, state: str) -> None:
        """Name both, and what may be done instead."""
        instead = "; refund it instead" if (action, state) in _REFUNDED else ""
        super().__init__(f"{action} does not apply to a payment in {state}{instead}")
        self.action = action
        self.state = state


#: What was sold is not given up any more.
_REFUNDED = frozenset({("abandon", "email"), ("abandon", "fin")})


class PaymentChanged(StateError):
    """The payment has changed since it was looked at; look again."""

    code = "payment_changed"

    def __init__(self, looked_at: int | None, version: int) -> None:
        """Name both versions."""
        super().__init__(f"it was looked at in version {looked_at}, and is in version {version}")
        self.looked_at = looked_at
        self.version = version


class DefinitionUnknown(StateError):
    """The payment's saga began under a definition that this release does not know."""

    code = "definition_unknown"

    def __init__(self, name: str, version: int) -> None:
        """Name the definition."""
        super().__init__(f"this release does not know version {version} of the saga {name}")


class WebhookRefused(CountersignError):
    """The webhook is refused; nothing of it is applied."""

    code = "webhook_refused"


class InvalidSignature(WebhookRefused):
    """No live HMAC key of the merchant account produces the signature."""

    code = "invalid_signature"


class UnknownMerchantAccount(WebhookRefused):
    """The webhook names a merchant account that is not registered here."""

    code = "unknown_merchant_account"


class WrongBasicCredentials(WebhookRefused):
    """The Basic credentials of the webhook are missing or wrong."""

    code = "wrong_basic_credentials"


class MalformedNotification(WebhookRefused):
    """The body is not a webhook of the PSP."""

    code = "malformed_notification"


class UnclearNotification(CountersignError):
    """The webhook is about money and does not say what happened to it."""

    code = "unclear_notification"


class GatewayError(CountersignError):
    """An outside service failed."""

    code = "gateway_error"


class GatewayRejected(GatewayError):
    """The outside service understood the request and refuses it; nothing happened there."""

    code = "gateway_rejected"


class GatewayUnavailable(GatewayError):
    """The outside service could not take the request now."""

    code = "gateway_unavailable"
    retryable = True


class GatewayNotAsked(GatewayUnavailable):
    """The request was not sent to the outside service; nothing happened there."""

    code = "gateway_not_asked"


class GatewayInProgress(GatewayUnavailable):
    """The outside service is still working on an earlier request under the same key."""

    code = "gateway_in_progress"


class GatewayOverloaded(GatewayUnavailable):
    """The outside service asks for fewer requests."""

    code = "gateway_overloaded"


class GatewayTimeout(GatewayError):
    """The outside service gave no answer in time; the outcome is unknown."""

    code = "gateway_timeout"
    retryable = True


class StoreUnavailable(CountersignError):
    """The database can't be written now; nothing was acknowledged."""

    code = "store_unavailable"
    retryable = True


class InvalidSettings(CountersignError):
    """The settings are not usable; the message lists every problem."""

    code = "invalid_settings"
