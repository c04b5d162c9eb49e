"""Everything that the environment decides, read once and validated together.

This module alone reads the environment. A setting that holds a secret is also read from the file
that ``<NAME>_FILE`` names. While ``countersign up`` runs, it keeps the settings of its instance in
``<home>/up.env``, so that every other command finds the running service without a word; the
environment wins over that file.
"""

import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from app.errors import InvalidSettings

ENV_FILE = "up.env"

#: Settings that carry the names of their whole field, without our prefix.
_BARE_NAMES = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}

#: The PSP retries a webhook for so long (psp-webhooks.md section 4).
PSP_RETRY_DAYS = 30

#: A webhook that is known for so long is known until the PSP has given up, with days to spare.
INBOX_DAYS_SAFE = 35

PORT_MAX = 65535

_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}")
_CAP = re.compile(r"(?P<currency>[A-Z]{3})=(?P<amount_minor>[0-9]{1,15})")

Seconds = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1, le=36_500)]


class Settings(BaseModel):
    """Immutable process settings. Durations carry their unit; secrets never appear in ``repr``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        description="Postgres, `postgresql://user:password@host/database`."
    )
    redis_url: SecretStr = Field(description="Redis, `redis://` or `unix://`; may be lost.")
    home: Path = Field(Path("var"), description="Folder of `countersign up`.")
    encryption_keys: SecretStr = Field(
        description="Master keys for secrets at rest, comma-separated, newest first."
    )
    listen: str = Field("127.0.0.1:8000", description="Address that `web` listens on.")
    public_url: str = Field("http://127.0.0.1:8000", description="Where others reach `web`.")
    web_workers: int = Field(2, ge=1, le=64, description="Processes of `web`.")
    web_connections: int = Field(
        1000, ge=10, le=10_000, description="Connections that each `web` process serves at once."
    )
    web_database_connections: int = Field(
        8, ge=2, le=256, description="Connections to Postgres of each `web` process."
    )
    proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Proxies before `web` that add to `X-Forwarded-For`; 0 ignores the header.",
    )
    web_waiters: int = Field(
        500,
        ge=1,
        le=10_000,
        description="Requests with `Prefer: wait` that may wait at once in each `web` process; each"
        " keeps a connection of a caller open.",
    )
    saga_threads: int = Field(
        16, ge=1, le=256, description="Payments whose steps run at once in one `worker`."
    )
    gateway_calls: int = Field(
        8,
        ge=1,
        le=256,
        description="Calls at once to one outside service from one process; more are put off.",
    )
    worker_metrics_listen: str = Field(
        "",
        description="Address at which a `worker` tells what it counts, to Prometheus; empty tells"
        " nobody.",
    )
    poll_milliseconds: int = Field(
        200, ge=10, le=60_000, description="How often an idle `worker` looks for due work."
    )
    lease_seconds: int = Field(
        25,
        ge=1,
        le=120,
        description="How long a claimed saga belongs to its worker; longer than any call.",
    )
    undo_delays_seconds: str = Field(
        "2,10,60,300,3600,86400,86400,86400,86400,86400",
        pattern=r"^\d{1,7}(,\d{1,7}){0,49}$",
        description="Waits between the tries of an undo that fails; then a person is asked.",
    )
    review_owner: str = Field(
        "payments on call", min_length=1, description="Whose desk `manual_review` lands on."
    )
    remote_services: str = Field(
        "",
        pattern=r"^$|^(psp|booking|fraud|mail)(,(psp|booking|fraud|mail))*$",
        description="Services whose commands participants elsewhere take over HTTP.",
    )
    decision_window_seconds: Seconds = Field(
        900, description="How long after its start a shopper still wants a payment."
    )
    orphan_grace_seconds: int = Field(
        60,
        ge=0,
        description="How long a webhook waits for its payment before the payment is `external`.",
    )
    inbox_days: Days = Field(
        400,
        description="How long a processed webhook is kept, and known again, after its last"
        " delivery; less than 35 is warned about.",
    )
    seen_days: Days = Field(
        35,
        description="How long Redis remembers that a webhook is stored; less than 30 is warned"
        " about.",
    )
    refusals_days: Days = Field(90, description="How long a refused webhook is kept.")
    idempotency_days: Days = Field(
        30, description="How long the answer to an `Idempotency-Key` is kept."
    )
    messages_days: int = Field(
        90,
        ge=40,  # the sweep looks for unconfirmed refunds in the messages of so many days
        le=36_500,
        description="How long commands and responses are kept after their payment came to rest.",
    )
    body_bytes_max: int = Field(1024 * 1024, ge=1024, description="Largest request body, bytes.")
    psp_url: str = Field(
        "https://checkout-test.adyen.com/v72", description="The PSP's Checkout API."
    )
    psp_api_key: SecretStr = Field(SecretStr(""), description="Its `X-API-Key`.")
    psp_timeout_seconds: Seconds = Field(10, description="Total time of one call to the PSP.")
    return_url: str = Field(
        "https://example.com/return", description="Where the PSP sends the shopper back."
    )
    booking_url: str = Field("", description="The booking service.")
    booking_token: SecretStr = Field(SecretStr(""), description="Its bearer token.")
    booking_timeout_seconds: Seconds = Field(3, description="Total time of one call to it.")
    fraud_url: str = Field("", description="The fraud check.")
    fraud_token: SecretStr = Field(SecretStr(""), description="Its bearer token.")
    fraud_timeout_seconds: Seconds = Field(3, description="Total time of one call to it.")
    fraud_amount_max: str = Field(
        "",
        description="The largest amounts that are taken, minor units by currency, such as"
        " `EUR=500000,JPY=800000`; a currency that is not named has no cap.",
    )
    fraud_velocity_max: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Payments of one shopper's mail address at one account within the window; more"
        " are refused. 0 counts none.",
    )
    fraud_velocity_seconds: int = Field(
        3600, ge=1, le=30 * 86400, description="That window, which moves on with every payment."
    )
    smtp_host: str = Field("", description="The mail server.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_tls: Literal["none", "starttls", "tls"] = Field(
        "starttls", description="How the connection to it is protected: none, starttls or tls."
    )
    smtp_user: str = Field("", description="User there; empty sends without login.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password there.")
    smtp_timeout_seconds: Seconds = Field(5, description="Total time of sending one mail.")
    mail_from: str = Field(
        "payments@example.com",
        pattern=r"^([^<>\r\n]*<[^<>@\s]+@[^<>@\s]+>|[^<>@,\s]+@[^<>@,\s]+)$",
        description="Sender of the mails: an address, or `Name <address>`.",
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment, over the ``up.env`` of a running instance.

        Args:
            environ: The process's own environment if None; a plain dict in tests.

        Raises:
            InvalidSettings: One message that names every missing or malformed setting.
        """
        given = dict(os.environ if environ is None else environ)  # noqa: TID251  # the one place
        home = Path(given.get("COUNTERSIGN_HOME") or "var")
        return cls.from_env(read_env_file(home / ENV_FILE) | given)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Build settings from variables; see ``load``."""
        problems: list[str] = []
        values: dict[str, str] = {}
        for field in cls.model_fields:
            name = variable(field)
            value = environ.get(name) or _from_file(environ, name, problems)
            if value:
                values[field] = value
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [_problem(dict(found)) for found in error.errors(include_url=False)]
        else:
            if not problems:
                return settings
        raise InvalidSettings("; ".join(problems))

    @field_validator("worker_metrics_listen")
    @classmethod
    def _check_listen(cls, text: str) -> str:
        port = text.rpartition(":")[2]
        if text and not (_LISTEN.fullmatch(text) and int(port) <= PORT_MAX):
            raise ValueError("is not of the form 127.0.0.1:9101 or [::1]:9101")
        return text

    @field_validator("fraud_amount_max")
    @classmethod
    def _check_caps(cls, text: str) -> str:
        _caps(text)
        return text

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        slowest = max(
            self.psp_timeout_seconds,
            self.booking_timeout_seconds,
            self.fraud_timeout_seconds,
            self.smtp_timeout_seconds,
        )
        if self.lease_seconds <= 2 * slowest:
            raise ValueError(
                "COUNTERSIGN_LEASE_SECONDS must be more than twice the slowest call's timeout"
            )
        return self

    @property
    def fraud_caps(self) -> Mapping[str, int]:
        """The largest amounts that are taken, minor units by currency."""
        return _caps(self.fraud_amount_max)

    @property
    def undo_delays(self) -> tuple[float, ...]:
        """The waits between the tries of an undo, seconds."""
        return tuple(float(delay) for delay in self.undo_delays_seconds.split(","))

    @property
    def services_elsewhere(self) -> frozenset[str]:
        """The services whose commands are not carried out by our workers."""
        return frozenset(filter(None, self.remote_services.split(",")))

    @property
    def master_keys(self) -> list[str]:
        """The master keys, newest first."""
        keys = self.encryption_keys.get_secret_value().split(",")
        return [key.strip() for key in keys if key.strip()]

    def derived_secret(self, purpose: str) -> bytes:
        """Return 32 bytes for one purpose: the same in every process that has the newest key."""
        return hmac.digest(self.master_keys[0].encode(), purpose.encode(), "sha256")


def horizon_warnings(settings: Settings) -> list[str]:
    """Tell which settings let a webhook be forgotten while the PSP still retries it.

    They are allowed: a test system may want them. A webhook that Postgres forgot counts as new when
    it comes again; one that only Redis forgot costs a look into Postgres.
    """
    warnings = []
    if settings.inbox_days < INBOX_DAYS_SAFE:
        warnings.append(
            f"COUNTERSIGN_INBOX_DAYS is {settings.inbox_days}, less than {INBOX_DAYS_SAFE}: the PSP"
            f" retries for {PSP_RETRY_DAYS} days, and a webhook that was forgotten counts as new"
        )
    if settings.seen_days < PSP_RETRY_DAYS:
        warnings.append(
            f"COUNTERSIGN_SEEN_DAYS is {settings.seen_days}: the PSP retries for {PSP_RETRY_DAYS}"
            " days, and the later retries are found in Postgres only, which is slower"
        )
    return warnings


def variable(field: str) -> str:
    """Return the environment variable of a setting."""
    return _BARE_NAMES.get(field, f"COUNTERSIGN_{field.upper()}")


def process_environment() -> dict[str, str]:
    """Return a copy of this process's environment, for its children."""
    return dict(os.environ)  # noqa: TID251  # the one place


def is_given(environ: Mapping[str, str], name: str) -> bool:
    """Tell whether a setting is given, by value or as a file."""
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))


def read_env_file(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines; an absent file is empty."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _from_file(environ: Mapping[str, str], name: str, problems: list[str]) -> str | None:
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        problems.append(f"{name}_FILE: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{name}_FILE: holds no text")
    return None


def _caps(text: str) -> dict[str, int]:
    """Read ``EUR=500000,JPY=800000``; nothing is no cap."""
    caps: dict[str, int] = {}
    for cap in filter(None, map(str.strip, text.split(","))):
        match = _CAP.fullmatch(cap)
        if match is None:
            raise ValueError("is not of the form EUR=500000,JPY=800000, in minor units")
        if match["currency"] in caps:
            raise ValueError(f"names {match['currency']} twice")
        caps[match["currency"]] = int(match["amount_minor"])
    return caps


def _problem(found: Mapping[str, object]) -> str:
    location, what = found["loc"], str(found["msg"]).removeprefix("Value error, ")
    if isinstance(location, tuple) and location:
        return f"{variable(str(location[0]))}: {what}"
    return what
