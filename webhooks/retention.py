"""Retention: what is older than its horizon goes, in small batches that let live traffic pass.

A webhook with open work stays, whatever its age. Its age counts from its last delivery: as long as
the PSP sends it, it must be known again. The messages of a payment stay while it goes on or waits
for a person; they are what the services were told, with the shopper's address. History
(``payment_events``) is never touched, so that a webhook that comes once more after it was forgotten
states a fact that its payment knows already.

A run may die at any instant: each batch is one transaction, and the next run goes on with whatever
is still there. The time it may take is bounded, and so is the cost of every statement: it reads the
rows of its batch through an index, never a whole table, and starts where the batch before it ended,
since the deleted rows before that place still have to be stepped over until they are vacuumed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, TextClause, text

from app import failpoints
from app.errors import StoreUnavailable
from app.persistence.engine import is_contention

#: Rows looked at in one transaction: some ten milliseconds, the longest that anybody waits for us.
BATCH_ROWS = 1000

#: A run pauses after each batch for this many times as long as the batch took: half of the time is
#: left to live traffic, and more of it the slower the database answers.
PAUSE_RATIO = 1.0

#: A dry run looks at no more rows of a table than this.
PLAN_ROWS_MAX = 100_000

#: How long the daily counts of key uses are kept: a year, and the time to compare it with the last.
KEY_USES_DAYS = 400

#: Names retention among all advisory locks of the database.
RETENTION_LOCK = 6_021_025

#: A batch costs what its rows cost, never what the table costs, whatever the statistics say.
BOUNDED_PLANS = text(
    """
    SELECT set_config('enable_seqscan', 'off', true),
           set_config('enable_bitmapscan', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('random_page_cost', '1', true)
    """
)

_LOCK_BATCH = """
    SELECT t.{age} AS age, CAST(t.ctid AS text) AS place
      FROM {table} t
     WHERE (t.{age}, t.ctid) > (CAST(:after AS timestamptz), CAST(:after_place AS tid))
       AND t.{age} < :before
     ORDER BY t.{age}, t.ctid
     LIMIT :rows_max
       FOR UPDATE SKIP LOCKED
"""

# A statement of its own sees what was committed until the locks were ours, such as a replay.
_DELETE_BATCH = """
    {along}
    DELETE FROM {table} t
     WHERE t.ctid = ANY(CAST(:places AS tid[])) AND NOT ({kept_if})
    RETURNING CAST(t.ctid AS text)
"""

_PLAN = """
    SELECT count(*) AS seen, count(*) FILTER (WHERE NOT is_kept) AS due,
           min(age) FILTER (WHERE is_kept) AS oldest_kept
      FROM (SELECT t.{age} AS age, ({kept_if}) AS is_kept
              FROM {table} t
             WHERE t.{age} < :before
             ORDER BY t.{age}
             LIMIT :rows_max) AS looked_at
"""

_OLDEST_SINCE = "SELECT min(t.{age}) FROM {table} t WHERE t.{age} >= CAST(:since AS timestamptz)"

# One row of the other table at a time, by its GUID, whatever the statistics say: OFFSET 0 rules out
# a join or a hash of the whole table, IS TRUE the index on the wrong column.
_WEBHOOK_IS_KEPT = """
    EXISTS (SELECT FROM inbox_work w WHERE w.guid = {webhook}.guid OFFSET 0)
    OR EXISTS (SELECT FROM webhook_redeliveries r
                WHERE r.guid = {webhook}.guid AND (r.received_at >= :before) IS TRUE
               OFFSET 0)
"""

_REDELIVERY_IS_KEPT = f"""
    EXISTS (SELECT FROM webhook_inbox i
             WHERE i.guid = t.guid
               AND (i.received_at >= :before OR {_WEBHOOK_IS_KEPT.format(webhook="i")})
            OFFSET 0)
"""

# A payment that a person has to look at is not done with, and one that only now came to rest may be
# asked about.
_SAGA_IS_KEPT = """
    EXISTS (SELECT FROM saga_instances s
             WHERE s.saga_id = t.saga_id
               AND (s.due IS NOT NULL OR s.current_step = 'manual_review'
                    OR s.updated_at >= :before)
            OFFSET 0)
"""

# In the same statement as their commands, so that both see the same saga.
_RESPONSES = """
    WITH answers AS (
        DELETE FROM responses
         WHERE command_id = ANY(ARRAY(
                SELECT t.message_id FROM {table} t
                 WHERE t.ctid = ANY(CAST(:places AS tid[])) AND NOT ({kept_if}))))
"""

#: Where a table's first batch begins.
_START = ("-infinity", "(0,0)")


class Rule:
    """What of one table goes, and when.

    Attributes:
        table: The table's name.
        kept: How long its rows are kept.
    """

    def __init__(
        self,
        table: str,
        *,
        age: str,
        kept: timedelta,
        kept_if: str = "false",
        along: str = "",
    ) -> None:
        """Prepare the rule's statements.

        Args:
            table: The table's name.
            age: Its column that tells a row's age; indexed, unless the table is small.
            kept: How long its rows are kept.
            kept_if: SQL; a row ``t`` for which it holds is kept, whatever its age.
            along: SQL; deletes what belongs to the rows that go, before them.
        """
        self.table = table
        self.kept = kept

        def statement(template: str) -> TextClause:
            return text(
                template.format(
                    table=table,
                    age=age,
                    kept_if=kept_if,
                    along=along.format(table=table, kept_if=kept_if),
                )
            )

        self.lock_batch = statement(_LOCK_BATCH)
        self.delete_batch = statement(_DELETE_BATCH)
        self.plan = statement(_PLAN)
        self.oldest_since = statement(_OLDEST_SINCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run would do to one table.

    Attributes:
        rows: How many rows would go; more than that if not ``is_exact``.
        is_exact: False if there are more rows to look at than a dry run does.
        oldest_kept: The age of the oldest row that would stay; None if there is none, or if it was
            not come across.
    """

    table: str
    rows: int
    is_exact: bool
    oldest_kept: date | None


@dataclass(kw_only=True)
class Purged:
    """What a run did to one table, as it goes on.

    Attributes:
        rows: How many rows went.
        batches: In how many transactions.
        seconds: How long that took, pauses included.
        is_complete: False if the time was up before the table was through.
        oldest_kept: The age of the oldest row that stayed; None if there is none.
    """

    table: str
    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    is_complete: bool = False
    oldest_kept: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    looked_at: int
    deleted: int
    first_kept: date | None
    last: tuple[date, str] | None


class Retention:
    """Deletes what is older than its horizon."""

    def __init__(
        self,
        engine: Engine,
        *,
        inbox_days: int,
        refusals_days: int,
        idempotency_days: int,
        messages_days: int,
        batch_rows: int = BATCH_ROWS,
        timer: Callable[[], float] = monotonic,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        """Set the horizons.

        Args:
            engine: The connections to Postgres.
            inbox_days: How long a webhook is known again after its last delivery.
            refusals_days: How long a refused request is kept for operators.
            idempotency_days: How long the answer to an Idempotency-Key is kept.
            messages_days: How long commands and responses are kept after their payment came to
                rest.
            batch_rows: Rows in one transaction.
            timer: Tells seconds that pass.
            pause: Waits for so many seconds.
        """
        self._engine = engine
        self._batch_rows = batch_rows
        self._timer = timer
        self._pause = pause
        inbox = timedelta(days=inbox_days)
        # Small tables first: the inbox may use up the rest of the time. Redeliveries before their
        # webhooks: a body never outlives its webhook.
        self.rules = (
            Rule("webhook_refusals", age="received_at", kept=timedelta(days=refusals_days)),
            Rule("hmac_key_uses", age="day", kept=timedelta(days=KEY_USES_DAYS)),
            Rule(
                "idempotency_keys",
                age="created_at",
                kept=timedelta(days=idempotency_days),
                kept_if="t.lease_until > :as_of",  # a request took it over and will answer
            ),
            Rule(
                "commands",
                age="timestamp",
                kept=timedelta(days=messages_days),
                kept_if=_SAGA_IS_KEPT,
                along=_RESPONSES,
            ),
            Rule(
                "webhook_redeliveries", age="received_at", kept=inbox, kept_if=_REDELIVERY_IS_KEPT
            ),
            Rule(
                "webhook_inbox",
                age="received_at",
                kept=inbox,
                kept_if=_WEBHOOK_IS_KEPT.format(webhook="t"),
            ),
        )

    def plan(self, *, as_of: datetime, rows_max: int = PLAN_ROWS_MAX) -> list[Planned]:
        """Tell what a run would delete as seen from ``as_of``; looks at ``rows_max`` rows a table.

        Changes nothing, and takes no lock.
        """
        with self._engine.begin() as connection:
            connection.execute(BOUNDED_PLANS)
            return [_planned(connection, rule, as_of, rows_max) for rule in self.rules]

    def run(self, *, as_of: datetime, max_seconds: float) -> list[Purged] | None:
        """Delete what is older than its horizon as seen from ``as_of``, until the time is up.

        Returns:
            What was done to each table; None if another run is at it, and nothing was done.

        Raises:
            StoreUnavailable: A batch took longer than a statement may. What was deleted until then
                stays deleted.
        """
        ends_at = self._timer() + max_seconds
        with self._engine.connect() as connection, _exclusively(connection) as is_ours:
            if not is_ours:
                return None
            try:
                return [self._purge(connection, rule, as_of, ends_at) for rule in self.rules]
            except Exception as error:
                if is_contention(error):
                    raise StoreUnavailable("the database is too busy for retention") from error
                raise

    def _purge(self, connection: Connection, rule: Rule, as_of: datetime, ends_at: float) -> Purged:
        purged = Purged(table=rule.table)
        begun_at = batch_begun_at = self._timer()
        place: tuple[date | str, str] = _START
        while batch_begun_at < ends_at and not purged.is_complete:
            batch = self._run_batch(connection, rule, as_of, place)
            place = batch.last or place
            purged.batches += 1
            purged.rows += batch.deleted
            purged.oldest_kept = purged.oldest_kept or batch.first_kept
            purged.is_complete = batch.looked_at < self._batch_rows
            if not purged.is_complete:
                self._pause((self._timer() - batch_begun_at) * PAUSE_RATIO)
            batch_begun_at = self._timer()
        if purged.oldest_kept is None:
            with connection.begin():
                purged.oldest_kept = _oldest_since(connection, rule, place[0])
        purged.seconds = self._timer() - begun_at
        return purged

    def _run_batch(
        self,
        connection: Connection,
        rule: Rule,
        as_of: datetime,
        place: tuple[date | str, str],
    ) -> _Batch:
        """Look at the rows behind ``place``, oldest first, and delete those that may go.

        Rows that somebody has locked are skipped, and left to the next run: it never waits.
        """
        after, after_place = place
        before = as_of - rule.kept
        with connection.begin():
            connection.execute(BOUNDED_PLANS)
            locked = connection.execute(
                rule.lock_batch,
                {
                    "after": after,
                    "after_place": after_place,
                    "before": before,
                    "rows_max": self._batch_rows,
                },
            ).all()
            failpoints.hit("retention.before_delete")
            deleted = set(
                connection.execute(
                    rule.delete_batch,
                    {"places": [row.place for row in locked], "before": before, "as_of": as_of},
                ).scalars()
            )
            failpoints.hit("retention.before_commit")
        failpoints.hit("retention.after_batch")
        return _Batch(
            looked_at=len(locked),
            deleted=len(deleted),
            first_kept=next((row.age for row in locked if row.place not in deleted), None),
            last=(locked[-1].age, locked[-1].place) if locked else None,
        )


def _planned(connection: Connection, rule: Rule, as_of: datetime, rows_max: int) -> Planned:
    before = as_of - rule.kept
    found = connection.execute(
        rule.plan, {"before": before, "as_of": as_of, "rows_max": rows_max}
    ).one()
    is_exact = found.seen < rows_max
    oldest_kept = found.oldest_kept
    if oldest_kept is None and is_exact:
        oldest_kept = _oldest_since(connection, rule, before)
    return Planned(table=rule.table, rows=found.due, is_exact=is_exact, oldest_kept=oldest_kept)


def _oldest_since(connection: Connection, rule: Rule, since: date | str) -> date | None:
    oldest: date | None = connection.execute(rule.oldest_since, {"since": since}).scalar_one()
    return oldest


@contextmanager
def _exclusively(connection: Connection) -> Iterator[bool]:
    """Hold retention's lock on ``connection``; yields False if another run holds it.

    The run works on the same connection: one that loses the lock can't go on deleting.
    """
    lock = {"lock": RETENTION_LOCK}
    is_ours = connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), lock).scalar_one()
    connection.commit()
    try:
        yield is_ours
    finally:
        if is_ours and not connection.invalidated:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), lock)
            connection.commit()
