"""Every table. The schema itself is built by the migrations; ``alembic check`` compares the two."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}

metadata = MetaData(naming_convention=NAMING_CONVENTION)


class InboxState(StrEnum):
    """Where a stored webhook stands; ``done`` is the absence of work."""

    NEW = "new"
    PARKED = "parked"
    DONE = "done"
    DEAD = "dead"


class Scheme(StrEnum):
    """How a webhook is signed (psp-webhooks.md sections 2 and 3)."""

    ITEM = "item"  #: eight values of each item
    HEADER = "header"  #: the raw body


def _timestamp(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


merchant_accounts = Table(
    "merchant_accounts",
    metadata,
    Column("merchant_account", Text, primary_key=True),
    Column("basic_user", Text),
    Column("basic_password_encrypted", LargeBinary),
    _timestamp("created_at"),
)

hmac_keys = Table(
    "hmac_keys",
    metadata,
    Column("key_id", Uuid, primary_key=True),
    Column(
        "merchant_account",
        ForeignKey(merchant_accounts.c.merchant_account),
        nullable=False,
        index=True,
    ),
    Column("secret_encrypted", LargeBinary, nullable=False),
    Column("check_value", Text, nullable=False),
    _timestamp("created_at"),
    _timestamp("expires_at", nullable=True),
    UniqueConstraint("merchant_account", "check_value"),
)

#: How often a key verified a webhook, by UTC day: during a rotation it shows when the old key falls
#: silent. Counted in the web processes and added up here every few seconds.
hmac_key_uses = Table(
    "hmac_key_uses",
    metadata,
    Column("key_id", ForeignKey(hmac_keys.c.key_id), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("uses", BigInteger, nullable=False),
    _timestamp("last_used_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Uuid, primary_key=True),
    Column("merchant_account", ForeignKey(merchant_accounts.c.merchant_account), nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    # Of a participant's key: the service whose commands it takes.
    Column("service_id", Text),
    _timestamp("created_at"),
    _timestamp("expires_at", nullable=True),
    _timestamp("revoked_at", nullable=True),
)

#: Append-only. What is still to be done with a row stands in ``inbox_work``.
webhook_inbox = Table(
    "webhook_inbox",
    metadata,
    Column("guid", Uuid, primary_key=True),
    Column("merchant_account", Text, nullable=False),
    Column("event_code", Text, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("psp_reference", Text, nullable=False),
    Column("original_reference", Text, nullable=False),
    Column("merchant_reference", Text, nullable=False),
    # Written by older releases only: a webhook is read from its body.
    Column("item", JSONB),
    Column("body", LargeBinary, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("scheme", Text, nullable=False, server_default=Scheme.ITEM.value),
    Column("hmac_key_id", Uuid),
    _timestamp("event_date"),
    _timestamp("received_at"),
    Index(None, "merchant_account", "psp_reference"),
    Index(None, "received_at"),
    # What a sweep looks for, of all that was ever stored.
    Index(
        "ix_webhook_inbox_swept",
        "event_code",
        "received_at",
        postgresql_where=text(
            "event_code IN ('REPORT_AVAILABLE', 'REFUND_FAILED', 'REFUNDED_REVERSED')"
        ),
    ),
)

#: One row for each webhook that is not done. Small, so that claiming stays fast however large the
#: inbox grows.
inbox_work = Table(
    "inbox_work",
    metadata,
    Column("guid", Uuid, primary_key=True),
    Column("state", Text, nullable=False, server_default=InboxState.NEW.value),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("error", Text),
    # True if it was applied before, and is to be applied again with the details of a redelivery.
    Column("is_again", Boolean, nullable=False, server_default="false"),
    # What an orphan waits for: whoever brings the payment wakes it.
    Column("awaits_account", Text),
    Column("awaits_merchant_reference", Text),
    Column("awaits_psp_reference", Text),
    _timestamp("due"),
    CheckConstraint("state IN ('new', 'parked', 'dead')", name="state"),
    Index("ix_inbox_work_claimable", "due", postgresql_where=text("state <> 'dead'")),
    Index("ix_inbox_work_dead", "due", postgresql_where=text("state = 'dead'")),
    Index(
        "ix_inbox_work_awaits_merchant_reference",
        "awaits_merchant_reference",
        "awaits_account",
        postgresql_where=text("awaits_merchant_reference IS NOT NULL"),
    ),
    Index(
        "ix_inbox_work_awaits_psp_reference",
        "awaits_psp_reference",
        "awaits_account",
        postgresql_where=text("awaits_psp_reference IS NOT NULL"),
    ),
)

#: Every delivery after the first one. The body is kept if its event date is later than all before:
#: the PSP says to use the latest details (psp-webhooks.md section 4).
webhook_redeliveries = Table(
    "webhook_redeliveries",
    metadata,
    Column("redelivery_id", BigInteger, primary_key=True, autoincrement=True),
    Column("guid", Uuid, nullable=False, index=True),
    Column("body", LargeBinary),
    _timestamp("event_date"),
    _timestamp("received_at"),
    Index(None, "received_at"),
)

#: What was refused, without trust: any stranger can write here, so it is capped and rate-limited.
webhook_refusals = Table(
    "webhook_refusals",
    metadata,
    Column("refusal_id", BigInteger, primary_key=True, autoincrement=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("scheme", Text, nullable=False, server_default=Scheme.ITEM.value),
    Column("claimed_account", Text),
    Column("claimed_guid", Uuid),
    Column("claimed_event", Text),
    Column("diagnosis", JSONB),
    Column("remote_address", Text),
    Column("body", LargeBinary, nullable=False),
    _timestamp("received_at"),
    Index(
        "ix_webhook_refusals_claimed_guid",
        "claimed_guid",
        postgresql_where=text("claimed_guid IS NOT NULL"),
    ),
    Index(None, "received_at"),
)

#: Given up with money left, as the sums tell; of two holds they tell too little if one of them was
#: captured and given back. The funds decide. A query that shall find by index says the same words.
MONEY_LEFT = (
    "state IN ('declined', 'compensated') AND (funds_status = 'authorised'"
    " OR authorised > captured + cancelled OR captured > refunded + charged_back"
    " OR funds_status IN ('refunded', 'charged_back') AND jsonb_path_exists(facts,"
    " '$[*] ? (@.payment_reference != $own || @.reference != $own"
    ' && (@.kind == "authorised" || @.kind == "expired"))\','
    " jsonb_object(ARRAY['own', psp_reference])))"
)

payments = Table(
    "payments",
    metadata,
    Column("payment_id", Uuid, primary_key=True),
    Column("merchant_account", Text, nullable=False),
    Column("merchant_reference", Text, nullable=False),
    Column("psp_reference", Text),
    Column("is_ours", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("capture", Text, nullable=False),
    Column("details", JSONB, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("funds_status", Text, nullable=False),
    Column("authorised", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("charged_back", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("newest_hash", LargeBinary, nullable=False),
    _timestamp("created_at"),
    _timestamp("updated_at"),
    Index(
        "uq_payments_merchant_reference",
        "merchant_account",
        "merchant_reference",
        unique=True,
        postgresql_where=text("is_ours"),
    ),
    Index("ix_payments_psp_reference", "merchant_account", "psp_reference"),
    # Two workers may meet the first two webhooks of a payment that we did not start.
    Index(
        "uq_payments_external",
        "merchant_account",
        "psp_reference",
        unique=True,
        postgresql_where=text("NOT is_ours"),
    ),
    Index("ix_payments_newest", "merchant_account", "created_at", "payment_id"),
    # Few of millions that rest. What it names changes with every move, so that moves are no HOT
    # updates any more.
    Index("ix_payments_money_left", "updated_at", "payment_id", postgresql_where=text(MONEY_LEFT)),
)

#: Append-only: a trigger refuses UPDATE, DELETE and TRUNCATE.
payment_events = Table(
    "payment_events",
    metadata,
    Column("payment_id", ForeignKey(payments.c.payment_id), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    _timestamp("at"),
)

saga_instances = Table(
    "saga_instances",
    metadata,
    Column("saga_id", Uuid, primary_key=True),
    Column("payment_id", ForeignKey(payments.c.payment_id), nullable=False, unique=True),
    Column("saga_type", Text, nullable=False),
    Column("definition_version", Integer, nullable=False),
    Column("current_step", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("owner", Text),
    _timestamp("due", nullable=True),
    _timestamp("lease_until", nullable=True),
    _timestamp("created_at"),
    _timestamp("updated_at"),
    # No saga is ever without a time to look at it again, unless its payment rests (faults.md F36).
    CheckConstraint("(status = 'resting') = (due IS NULL)", name="due_unless_resting"),
    Index("ix_saga_instances_due", "due", postgresql_where=text("due IS NOT NULL")),
)

saga_steps = Table(
    "saga_steps",
    metadata,
    Column("saga_id", ForeignKey(saga_instances.c.saga_id), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("direction", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("round", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    # What this round asks for: operation and subject. Another request is another round.
    Column("request", Text),
    Column("response", JSONB, nullable=False),
    # When the step is asked again; the saga's own ``due`` is the earliest of them.
    _timestamp("due", nullable=True),
    _timestamp("started_at"),
    _timestamp("asked_at"),
    _timestamp("updated_at"),
)

#: The command queue: one message for each decision to act, written in the commit of the decision.
#: Tries of one decision carry the same message.
commands = Table(
    "commands",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("saga_id", ForeignKey(saga_instances.c.saga_id), nullable=False),
    Column("step", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("round", SmallInteger, nullable=False),
    Column("merchant_account", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    _timestamp("timestamp"),
    # Until when a participant elsewhere may take it; null if a worker carries it out by itself, or
    # if it is answered.
    _timestamp("offered_until", nullable=True),
    Column("taken_by", Text),
    _timestamp("taken_until", nullable=True),
    UniqueConstraint("saga_id", "step", "direction", "round"),
    Index(None, "timestamp"),
    Index(
        "ix_commands_offered",
        "service_id",
        "merchant_account",
        "timestamp",
        postgresql_where=text("offered_until IS NOT NULL"),
    ),
    Index("ix_commands_refunds", "timestamp", postgresql_where=text("operation = 'refund'")),
)

#: The response queue. A response of a participant elsewhere waits until the saga has read it; one
#: that a worker brought back itself is written in the commit that applies it.
responses = Table(
    "responses",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("command_id", ForeignKey(commands.c.message_id), nullable=False, index=True),
    Column("saga_id", Uuid, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("success", Boolean, nullable=False),
    _timestamp("timestamp"),
    _timestamp("applied_at", nullable=True),
    Index("ix_responses_unapplied", "saga_id", postgresql_where=text("applied_at IS NULL")),
)

#: Payments that wait for a person: whose, since when, why, and what to do next.
reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Uuid, primary_key=True),
    Column("payment_id", ForeignKey(payments.c.payment_id), nullable=False),
    Column("merchant_account", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("step", Text),
    Column("next_step", Text, nullable=False),
    _timestamp("opened_at"),
    _timestamp("closed_at", nullable=True),
    Index(None, "payment_id", "opened_at"),
    Index(
        "uq_reviews_open",
        "payment_id",
        unique=True,
        postgresql_where=text("closed_at IS NULL"),
    ),
)

#: What operators did, and why. Append-only: a trigger refuses UPDATE, DELETE and TRUNCATE.
operator_actions = Table(
    "operator_actions",
    metadata,
    Column("action_id", Uuid, primary_key=True),
    Column("operator", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", JSONB, nullable=False),
    Column("after", JSONB, nullable=False),
    _timestamp("at"),
    CheckConstraint("btrim(reason) <> ''", name="reason"),
    Index(None, "subject"),
    Index(None, "at"),
)

#: Whom the built-in fraud rules refuse.
fraud_denials = Table(
    "fraud_denials",
    metadata,
    Column("merchant_account", ForeignKey(merchant_accounts.c.merchant_account), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    _timestamp("added_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("merchant_account", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("payment_id", Uuid, nullable=False),
    Column("answer_status", SmallInteger),
    Column("answer_body", Text),
    _timestamp("lease_until"),
    _timestamp("created_at"),
    Index(None, "created_at"),
)

breaks = Table(
    "breaks",
    metadata,
    Column("break_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("merchant_account", Text, nullable=False),
    Column("payment_id", ForeignKey(payments.c.payment_id)),
    # What exactly it is about, if that is not the payment: a file, a refund, an unknown reference.
    Column("subject", Text),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    _timestamp("opened_at"),
    Index(
        "uq_breaks_open",
        "kind",
        "payment_id",
        unique=True,
        postgresql_where=text("state = 'open'"),
    ),
    # Open or not: what a person has settled is not opened again by the next sweep.
    Index(
        "uq_breaks_subject",
        "kind",
        "merchant_account",
        "subject",
        unique=True,
        postgresql_where=text("subject IS NOT NULL"),
    ),
)
