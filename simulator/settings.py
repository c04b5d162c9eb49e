"""What the command line and the environment decide, read once and validated together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRETS = ("SIMULATOR_API_KEY", "SIMULATOR_HMAC_KEY", "SIMULATOR_MERCHANT_ACCOUNT")
SPEEDUP = 120.0  #: Makes the PSP's first retry come after a second.
LATE_WEBHOOK_SECONDS = 20.0  #: Late enough to be missed, early enough to watch.


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Immutable process settings. Secrets never appear in ``repr``.

    Attributes:
        speedup: The PSP's retry intervals (2 minutes and up) are divided by it.
        late_webhook_seconds: How late LATE WEBHOOK is; not divided.
        basic_auth: User and password sent with every webhook, if any.
    """

    port: int
    smtp_port: int
    home: Path
    webhook_url: str
    merchant_account: str
    api_key: str = field(repr=False)
    hmac_key: bytes = field(repr=False)
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    speedup: float = SPEEDUP
    late_webhook_seconds: float = LATE_WEBHOOK_SECONDS

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, port: int, smtp_port: int, home: Path, webhook_url: str
    ) -> "Settings":
        """Build settings from the command line's options and the environment's secrets.

        Raises:
            ValueError: One message naming every missing or malformed variable.
        """
        problems = [f"{name} is missing" for name in SECRETS if not environ.get(name)]
        hmac_key = _hex(environ, "SIMULATOR_HMAC_KEY", problems)
        speedup = _positive(environ, "SIMULATOR_SPEEDUP", SPEEDUP, problems)
        late = _positive(environ, "SIMULATOR_LATE_WEBHOOK_SECONDS", LATE_WEBHOOK_SECONDS, problems)
        if problems:
            raise ValueError("; ".join(problems))
        user = environ.get("SIMULATOR_BASIC_USER")
        return cls(
            port=port,
            smtp_port=smtp_port,
            home=home,
            webhook_url=webhook_url,
            merchant_account=environ["SIMULATOR_MERCHANT_ACCOUNT"],
            api_key=environ["SIMULATOR_API_KEY"],
            hmac_key=hmac_key,
            basic_auth=(user, environ.get("SIMULATOR_BASIC_PASSWORD", "")) if user else None,
            speedup=speedup,
            late_webhook_seconds=late,
        )


def _hex(environ: Mapping[str, str], name: str, problems: list[str]) -> bytes:
    """Return the variable's bytes; an absent one is somebody else's problem."""
    try:
        return bytes.fromhex(environ.get(name, ""))
    except ValueError:
        problems.append(f"{name} is not hexadecimal")
        return b""


def _positive(environ: Mapping[str, str], name: str, default: float, problems: list[str]) -> float:
    """Return the variable as a number above zero, ``default`` if it is absent or empty."""
    text = environ.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        problems.append(f"{name} is not a number above zero")
    return number
