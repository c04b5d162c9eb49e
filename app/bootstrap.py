"""The composition root: settings in, wired objects out. Nothing below it reads a setting."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

import uuid_utils.compat
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from app.clock import Clock, SystemClock
from app.errors import MerchantAccountNotFound
from app.gateways.adyen import AdyenGateway
from app.gateways.booking import HttpBookingGateway
from app.gateways.breaker import Breaker, LocalMarks, RedisMarks
from app.gateways.fraud import HttpFraudGateway
from app.gateways.fraud_rules import FraudRules
from app.gateways.http import HttpGateway
from app.gateways.mail import SmtpMailGateway
from app.gateways.resilience import PAUSES_SECONDS, GatewayMetrics, Guard, Guarded
from app.gateways.smtp import SmtpServer
from app.gateways.velocity import Velocity
from app.persistence.accounts import MerchantAccounts
from app.persistence.batch import SqlBatch
from app.persistence.direct import DirectConnection
from app.persistence.encryption import Vault
from app.persistence.engine import connect
from app.persistence.fraud_denials import FraudDenials
from app.persistence.seen import SeenCache
from app.persistence.unit_of_work import SqlUnitOfWork
from app.sagas.booking import booking_saga
from app.sagas.definition import Definitions, RetryPolicy
from app.sagas.metrics import MeasuredOrchestrator, SagaMetrics
from app.sagas.orchestrator import Orchestrator
from app.sagas.runner import SagaRunner
from app.services.ports import Participants
from app.settings import Settings
from webhooks.diagnosis.evidence import EvidenceRoom
from webhooks.drain import Drain
from webhooks.inbox import Inbox
from webhooks.key_uses import KeyUses
from webhooks.keyring import Keyring, SenderAccount
from webhooks.refusals import Refusals
from webhooks.replay import Replay


def new_id() -> UUID:
    """Return a fresh UUIDv7 (RFC 9562): identifiers sort by the time they were made."""
    return uuid_utils.compat.uuid7()


@dataclass(frozen=True)
class Container:
    """Everything that a process may need, each made when it is first asked for.

    Attributes:
        settings: The process's settings.
        role: Names the process in Postgres and in claims.
        pool_size: Database connections that the process may hold.
        clock: The time.
        outside: The outside services, if they are not those that the settings name.
    """

    settings: Settings
    role: str
    pool_size: int = 4
    clock: Clock = field(default_factory=SystemClock)
    outside: Participants | None = None

    @cached_property
    def engine(self) -> Engine:
        """The connections to Postgres."""
        return connect(
            self.settings.database_url.get_secret_value(),
            pool_size=self.pool_size,
            application_name=f"countersign {self.role}",
        )

    @cached_property
    def vault(self) -> Vault:
        """What opens stored secrets."""
        return Vault(self.settings.master_keys)

    @cached_property
    def seen(self) -> SeenCache:
        """Redis' hint."""
        return SeenCache(
            self.settings.redis_url.get_secret_value(),
            remember_seconds=self.settings.seen_days * 86400,
        )

    @cached_property
    def accounts(self) -> MerchantAccounts:
        """Merchant accounts and keys."""
        return MerchantAccounts(self.engine, self.vault, self.clock, new_id)

    @cached_property
    def definitions(self) -> Definitions:
        """The flow, in every version that may still be running."""
        return booking_saga(
            decision_window_seconds=self.settings.decision_window_seconds,
            undo_retry=RetryPolicy(self.settings.undo_delays),
            call_seconds_max=self.settings.lease_seconds,
        )

    def close(self) -> None:
        """Let go of every connection to Postgres that was made."""
        made = vars(self)
        if "inbox" in made:
            self.inbox.close()
        if "engine" in made:
            self.engine.dispose()

    def unit_of_work(self) -> SqlUnitOfWork:
        """Open a transaction."""
        return SqlUnitOfWork(
            self.engine,
            saga_type=self.definitions.name,
            definition_version=self.definitions.newest.version,
            review_owner=self.settings.review_owner,
            new_id=new_id,
        )

    def batch(self) -> SqlBatch:
        """Open a transaction over many payments."""
        return SqlBatch(
            self.engine,
            saga_type=self.definitions.name,
            definition_version=self.definitions.newest.version,
            review_owner=self.settings.review_owner,
            new_id=new_id,
        )

    @cached_property
    def inbox(self) -> Inbox:
        """Where webhooks are stored."""
        connection = DirectConnection(
            self.settings.database_url.get_secret_value(),
            application_name=f"countersign {self.role} inbox",
        )
        return Inbox(connection, self.seen, self.key_uses, self.clock)

    @cached_property
    def key_uses(self) -> KeyUses:
        """How often keys verify webhooks."""
        return KeyUses(self.engine, self.clock)

    @cached_property
    def keyring(self) -> Keyring:
        """Who may send webhooks."""
        return Keyring(self._sender_account, self.accounts.names)

    @cached_property
    def refusals(self) -> Refusals:
        """Where refused webhooks are kept."""
        return Refusals(self.engine, self.clock, self.evidence)

    @cached_property
    def evidence(self) -> EvidenceRoom:
        """What explains why a webhook is refused."""
        return EvidenceRoom(self.engine, self.vault, self.clock)

    @cached_property
    def drain(self) -> Drain:
        """What applies stored webhooks."""
        return Drain(
            batch=self.batch,
            clock=self.clock,
            new_id=new_id,
            decision_window_seconds=self.settings.decision_window_seconds,
            orphan_grace_seconds=self.settings.orphan_grace_seconds,
        )

    @cached_property
    def replay(self) -> Replay:
        """What applies stored webhooks again."""
        return Replay(batch=self.batch, drain=self.drain, clock=self.clock)

    @cached_property
    def runner(self) -> SagaRunner:
        """What runs due sagas."""
        settings = self.settings
        participants = {
            service_id: participant
            for service_id, participant in (self.outside or self.participants).items()
            if service_id not in settings.services_elsewhere
        }
        orchestrator = Orchestrator(
            self.definitions,
            services=participants.keys(),
            batch=self.batch,
            clock=self.clock,
            new_id=new_id,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            lease_seconds=settings.lease_seconds,
        )
        return SagaRunner(
            MeasuredOrchestrator(orchestrator, SagaMetrics(self.registry)),
            participants,
            sagas_max=settings.saga_threads,
            poll_seconds=settings.poll_milliseconds / 1000,
        )

    @cached_property
    def fraud_denials(self) -> FraudDenials:
        """Whom merchant accounts deny."""
        return FraudDenials(self.engine, self.clock, new_id)

    @cached_property
    def fraud_rules(self) -> FraudRules:
        """The fraud rules that are built in."""
        settings = self.settings
        velocity = Velocity(
            settings.redis_url.get_secret_value(),
            secret=settings.derived_secret("fraud velocity"),
            most=settings.fraud_velocity_max,
            window_seconds=settings.fraud_velocity_seconds,
        )
        return FraudRules(
            caps=settings.fraud_caps,
            deny_list=self.fraud_denials,
            velocity=velocity if settings.fraud_velocity_max else None,
            clock=self.clock,
        )

    @cached_property
    def registry(self) -> CollectorRegistry:
        """What this process counts."""
        return CollectorRegistry()

    @cached_property
    def participants(self) -> Participants:
        """The outside services that the settings name, each behind a guard of its own."""
        settings = self.settings
        shared, local = RedisMarks(settings.redis_url.get_secret_value()), LocalMarks()
        metrics = GatewayMetrics(self.registry)

        def guard(
            dependency: str, timeout_seconds: int, pauses_seconds: Sequence[float] = PAUSES_SECONDS
        ) -> Guard:
            return Guard(
                dependency,
                timeout_seconds=timeout_seconds,
                calls_max=settings.gateway_calls,
                breaker=Breaker(
                    dependency, shared=shared, local=local, pause_seconds=timeout_seconds + 1
                ),
                metrics=metrics,
                pauses_seconds=pauses_seconds,
            )

        psp = HttpGateway(
            "the PSP",
            settings.psp_url,
            headers={"X-API-Key": settings.psp_api_key.get_secret_value()},
            guard=guard("psp", settings.psp_timeout_seconds),
        )
        booking = HttpGateway(
            "the booking service",
            settings.booking_url,
            headers=_bearer(settings.booking_token.get_secret_value()),
            guard=guard("booking", settings.booking_timeout_seconds),
        )
        fraud = HttpGateway(
            "the fraud check",
            settings.fraud_url,
            headers=_bearer(settings.fraud_token.get_secret_value()),
            guard=guard("fraud", settings.fraud_timeout_seconds),
        )
        mail_server = SmtpServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            tls=settings.smtp_tls,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value(),
            timeout_seconds=settings.smtp_timeout_seconds,
        )
        mail = SmtpMailGateway(mail_server, sender=settings.mail_from)
        psp_undo = psp.behind(guard("psp-undo", settings.psp_timeout_seconds))
        booking_undo = booking.behind(guard("booking-undo", settings.booking_timeout_seconds))
        return {
            "psp": AdyenGateway(psp, undo=psp_undo, return_url=settings.return_url),
            "booking": HttpBookingGateway(booking, undo=booking_undo),
            "fraud": HttpFraudGateway(fraud),
            "fraud_rules": self.fraud_rules,
            # It must not be tried twice in one call: a mail has no idempotency key.
            "mail": Guarded(mail, guard("mail", settings.smtp_timeout_seconds, ())),
        }

    def _sender_account(self, merchant_account: str) -> SenderAccount | None:
        try:
            basic = self.accounts.basic_credentials(merchant_account)
        except MerchantAccountNotFound:
            return None
        keys = tuple(self.accounts.live_keys(merchant_account))
        return SenderAccount(merchant_account=merchant_account, keys=keys, basic=basic)


def _bearer(token: str) -> dict[str, str]:
    # "Bearer" and nothing is no header: no request would leave.
    return {"Authorization": f"Bearer {token}"} if token else {}
