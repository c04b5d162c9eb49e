"""One whole instance on one machine: `countersign up`."""

import http.client
import json
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic
from types import FrameType
from typing import IO

from app import settings as settings_
from app.bootstrap import Container, new_id
from app.domain.access import Role
from app.embedded import (
    EmbeddedPostgres,
    EmbeddedRedis,
    EmbeddedStoreFailed,
    free_port,
    lock_home,
)
from app.errors import CountersignError, MerchantAccountExists, Unauthenticated
from app.persistence.accounts import HMAC_KEY_BYTES, MerchantAccounts, hmac_key_of
from app.persistence.encryption import new_master_key
from app.settings import ENV_FILE, Settings
from app.supervisor import ChildDied, Supervisor, die_with_parent
from migrations import upgrade

DEMO_ACCOUNT = "CountersignECOM"
DEMO_FILE = "demo.json"
PARTICIPANT_KEY_FILE = "participant.key"
SIMULATOR_KEY_FILE = "simulator.key"
#: The example participant takes commands for so long: what it drops comes again soon.
PARTICIPANT_LEASE_SECONDS = 5
READY_SECONDS = 60.0
HOST = "127.0.0.1"
#: How often the embedded stores are looked after.
STORE_PAUSE_SECONDS = 0.5


class PortTaken(CountersignError):
    """A port that is needed is taken by another program."""

    code = "port_taken"


class NotReady(CountersignError):
    """The service did not become ready in time."""

    code = "not_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo merchant: what a new user needs to try the service."""

    hmac_key: str = field(repr=False)
    api_key: str = field(repr=False)
    operator_key: str = field(repr=False)


class Instance:
    """The stores, the web process, the worker and the simulator, started and stopped as one."""

    def __init__(
        self,
        *,
        home: Path,
        port: int,
        with_simulator: bool,
        workers: int,
        say: Callable[[str], None],
    ) -> None:
        """Describe the instance; nothing is started yet.

        Args:
            home: Where it keeps everything.
            port: Of the web process; the simulator takes the next one.
            with_simulator: False if the settings name a real PSP.
            workers: Web processes.
            say: Tells the person at the terminal what happens.
        """
        self._home = home.resolve()
        self._port = port
        self._with_simulator = with_simulator
        self._workers = workers
        self._say = say
        self._stopping = Event()
        self._supervisor = Supervisor(say)
        self._postgres: EmbeddedPostgres | None = None
        self._redis: EmbeddedRedis | None = None
        self._tends_stores_at = 0.0

    @property
    def url(self) -> str:
        """Where the web process listens."""
        return f"http://{HOST}:{self._port}"

    @property
    def simulator_url(self) -> str:
        """Where the simulator listens."""
        return f"http://{HOST}:{self._port + 1}"

    def run(self) -> None:
        """Start everything, say so, and keep it running until SIGTERM or SIGINT.

        Raises:
            HomeTaken: Another instance runs in this home.
            PortTaken: A port is taken.
            ChildDied: A process did not start; its own message stands above.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        lock = lock_home(self._home)
        try:
            self._start()
            while not self._stopping.wait(0.1):
                self._supervisor.tend()
                self._tend_stores()
        finally:
            self._stop(lock)

    def _start(self) -> None:
        _require_free(self._port)
        if self._with_simulator:
            _require_free(self._port + 1)
        environment = settings_.process_environment() | self._own_settings()
        if self._with_simulator:
            environment |= self._outside_settings(environment)
        simulator_environment = self._simulator_environment(environment)
        if self._with_simulator:
            self._start_simulator(environment, simulator_environment)
        environment |= self._stores(environment)
        settings = Settings.from_env(environment)
        upgrade(settings.database_url.get_secret_value())
        self._start_role("web", environment)
        self._start_role("worker", environment)
        accounts = Container(settings, role="up").accounts
        demo = self._demo_merchant(accounts, simulator_environment)
        _write_private(
            self._home / ENV_FILE, "".join(f"{k}={v}\n" for k, v in _of_ours(environment))
        )
        self._await_ready()
        if self._with_simulator:
            self._serve_elsewhere(settings.services_elsewhere, accounts)
        self._tell(demo)

    def _own_settings(self) -> dict[str, str]:
        name = "COUNTERSIGN_ENCRYPTION_KEYS"
        keys = {}
        if not settings_.is_given(settings_.process_environment(), name):
            keys[name] = _kept(self._home / "encryption.key", new_master_key)
        return {
            **keys,
            "COUNTERSIGN_HOME": str(self._home),
            "COUNTERSIGN_LISTEN": f"{HOST}:{self._port}",
            "COUNTERSIGN_PUBLIC_URL": self.url,
            "COUNTERSIGN_WEB_WORKERS": str(self._workers),
        }

    def _outside_settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The outside world is the simulator."""
        token = _kept(self._home / SIMULATOR_KEY_FILE, lambda: secrets.token_urlsafe(24))
        return {
            "COUNTERSIGN_PSP_URL": f"{self.simulator_url}/v72",
            "COUNTERSIGN_PSP_API_KEY": token,
            "COUNTERSIGN_BOOKING_URL": self.simulator_url,
            "COUNTERSIGN_BOOKING_TOKEN": token,
            "COUNTERSIGN_FRAUD_URL": self.simulator_url,
            "COUNTERSIGN_FRAUD_TOKEN": token,
            "COUNTERSIGN_SMTP_HOST": HOST,
            "COUNTERSIGN_SMTP_PORT": str(free_port()),
            "COUNTERSIGN_SMTP_TLS": "none",
            "COUNTERSIGN_RETURN_URL": environment.get("COUNTERSIGN_RETURN_URL", self.url),
        }

    def _simulator_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {
            "SIMULATOR_API_KEY": environment.get("COUNTERSIGN_PSP_API_KEY", ""),
            "SIMULATOR_HMAC_KEY": _kept_demo(self._home).get("hmac_key")
            or secrets.token_hex(HMAC_KEY_BYTES).upper(),
            "SIMULATOR_MERCHANT_ACCOUNT": DEMO_ACCOUNT,
        }

    def _start_simulator(
        self, environment: Mapping[str, str], simulator_environment: Mapping[str, str]
    ) -> None:
        command = [
            *(sys.executable, "-m", "simulator"),
            *("--port", str(self._port + 1)),
            *("--home", str(self._home / "simulator")),
            *("--webhook-url", f"{self.url}/webhooks/adyen"),
            *("--smtp-port", environment["COUNTERSIGN_SMTP_PORT"]),
        ]
        self._supervisor.start(
            "simulator", command, {**settings_.process_environment(), **simulator_environment}
        )

    def _serve_elsewhere(self, services: Collection[str], accounts: MerchantAccounts) -> None:
        """Start the example participant for the booking service, if that lives elsewhere."""
        if unserved := sorted(set(services) - {"booking"}):
            self._say(
                f"nobody takes the commands of {', '.join(unserved)} yet: docs/participants.md"
                " tells how"
            )
        if "booking" not in services:
            return
        path = self._home / PARTICIPANT_KEY_FILE
        kept = path.read_text().strip() if path.exists() else None
        key = _live_api_key(accounts, kept, Role.PARTICIPANT, service_id="booking")
        _write_private(path, key)
        command = [
            *(sys.executable, "-m", "simulator.participant"),
            *("--url", self.url, "--api-key-file", str(path)),
            *("--booking-url", self.simulator_url),
            *("--booking-token-file", str(self._home / SIMULATOR_KEY_FILE)),
            *("--lease-seconds", str(PARTICIPANT_LEASE_SECONDS)),
        ]
        self._supervisor.start("participant", command, settings_.process_environment())

    def _start_role(self, role: str, environment: Mapping[str, str]) -> None:
        self._supervisor.start(role, [sys.executable, "-m", "app", role], environment)

    def _stores(self, environment: Mapping[str, str]) -> dict[str, str]:
        stores: dict[str, str] = {}
        if not settings_.is_given(environment, "REDIS_URL"):
            self._redis = EmbeddedRedis(self._home / "redis", **die_with_parent())
            stores["REDIS_URL"] = self._redis.url
        if not settings_.is_given(environment, "DATABASE_URL"):
            self._postgres = EmbeddedPostgres(self._home / "postgres")
            stores["DATABASE_URL"] = self._postgres.url
        return stores

    def _tend_stores(self) -> None:
        """Start an embedded store again that has died; what Postgres had committed is there."""
        if monotonic() < self._tends_stores_at:
            return
        self._tends_stores_at = monotonic() + STORE_PAUSE_SECONDS
        try:
            if self._redis is not None and self._redis.process.poll() is not None:
                self._say("redis ended; starting it again")
                self._redis.start()
            if self._postgres is not None and not self._postgres.is_running:
                self._say("postgres ended; starting it again")
                self._postgres.start()
        except EmbeddedStoreFailed as failure:
            self._say(f"not yet: {failure}")

    def _demo_merchant(
        self, accounts: MerchantAccounts, simulator_environment: Mapping[str, str]
    ) -> Demo:
        """Register the demo merchant, or find it as an earlier start left it."""
        kept = _kept_demo(self._home)
        hmac_key = simulator_environment["SIMULATOR_HMAC_KEY"]
        try:
            accounts.add(DEMO_ACCOUNT, [hmac_key_of(hmac_key)])
        except MerchantAccountExists:
            accounts.add_key(DEMO_ACCOUNT, hmac_key_of(hmac_key))
        demo = Demo(
            hmac_key=hmac_key,
            api_key=_live_api_key(accounts, kept.get("api_key"), Role.MERCHANT),
            operator_key=_live_api_key(accounts, kept.get("operator_key"), Role.OPERATOR),
        )
        values = {
            "merchant_account": DEMO_ACCOUNT,
            "hmac_key": demo.hmac_key,
            "api_key": demo.api_key,
            "operator_key": demo.operator_key,
            "url": self.url,
            "simulator_url": self.simulator_url if self._with_simulator else None,
        }
        _write_private(self._home / DEMO_FILE, json.dumps(values, indent=2) + "\n")
        return demo

    def _await_ready(self) -> None:
        ends_at = monotonic() + READY_SECONDS
        waiting = [(self._port, "/health/ready")]
        if self._with_simulator:
            waiting.append((self._port + 1, "/health"))
        while waiting:
            self._supervisor.check()
            if self._stopping.is_set():
                raise ChildDied("stopped before it was ready")
            if monotonic() > ends_at:
                raise NotReady(f"no answer on port {waiting[0][0]} within {READY_SECONDS:.0f} s")
            waiting = [(port, path) for port, path in waiting if not _answers(port, path)]
            self._stopping.wait(0.03)

    def _tell(self, demo: Demo) -> None:
        reference = f"ORDER-{new_id().hex[-12:]}"
        body = json.dumps(
            {
                "merchant_reference": reference,
                "amount": {"value": 12500, "currency": "EUR"},
                "payment_method": {"type": "scheme", "holder_name": "S Hopper"},
                "shopper": {"email": "s.hopper@example.com"},
                "booking": {"reference": "BK-1001"},
            }
        )
        bearer = f"-H 'Authorization: Bearer {demo.api_key}'"
        self._say(
            f"\ndemo merchant {DEMO_ACCOUNT}, also in {self._home / DEMO_FILE}\n"
            f"  HMAC key {demo.hmac_key}\n"
            f"  API key  {demo.api_key}\n\n"
            "start a payment and wait until it rests, then look it up:\n\n"
            f"curl -sS {self.url}/payments {bearer} -H 'Content-Type: application/json'"
            f" -H 'Idempotency-Key: {reference}' -H 'Prefer: wait=10' -d '{body}'\n\n"
            f"curl -sS '{self.url}/payments?merchant_reference={reference}' {bearer}\n"
        )
        print(f"ready {self.url}/console/", flush=True)  # noqa: T201  # the line that callers wait for

    def _stop(self, lock: IO[str]) -> None:
        self._say("stopping")
        self._supervisor.stop()
        (self._home / ENV_FILE).unlink(missing_ok=True)
        if self._redis is not None:
            self._redis.stop()
        if self._postgres is not None:
            self._postgres.stop()
        lock.close()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()


def _of_ours(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    names = {settings_.variable(field) for field in Settings.model_fields}
    names |= {f"{name}_FILE" for name in names}
    return sorted((name, value) for name, value in environment.items() if name in names)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """Return a secret of this home, made at the first start."""
    if not path.exists():
        _write_private(path, make())
    return path.read_text().strip()


def _kept_demo(home: Path) -> dict[str, str]:
    try:
        kept = json.loads((home / DEMO_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: value for name, value in kept.items() if isinstance(value, str)}


def _live_api_key(
    accounts: MerchantAccounts, kept: str | None, role: Role, *, service_id: str | None = None
) -> str:
    try:
        if kept and accounts.authenticate(kept).role is role:
            return kept
    except Unauthenticated:
        pass
    return accounts.create_api_key(DEMO_ACCOUNT, role, service_id=service_id)


def _write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, at once whole."""
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(content)
    draft.replace(path)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise PortTaken(f"port {port}; choose another one with --port") from None


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
