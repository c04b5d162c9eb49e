"""S7: money that the PSP has for a payment that rests as given up.

Whatever the saga knows of, it undoes. This is the net below it: a fact came where the flow stays, a
person ended the payment with money held, or we made a mistake. Nothing moves the payment any more,
so that a person must.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from app.domain.anomalies import STATUS_MISMATCH
from app.domain.money import AMOUNT_MINOR_MAX, Money
from app.domain.payment import Payment
from app.persistence.payments import payment_of
from app.persistence.tables import MONEY_LEFT
from reconciliation.sweep.cases import states_of_cases
from reconciliation.sweep.findings import Action, Case, Finding, Look
from reconciliation.sweep.refunds import has_come_back

#: Payments that are looked at together.
PAGE = 500

#: The sums choose, by an index of their own; the funds decide.
CANDIDATES = text(
    f"""
    SELECT p.*, moved.event, moved.cause,
           EXISTS (SELECT FROM breaks b
                    WHERE b.kind = :kind AND b.payment_id = p.payment_id AND b.state = 'open'
                  ) AS is_told
      FROM (SELECT * FROM payments
             WHERE {MONEY_LEFT}
               AND updated_at BETWEEN :after_at AND :quiet_since
               AND (updated_at, payment_id) > (:after_at, :after)
               AND (CAST(:merchant_account AS text) IS NULL
                    OR merchant_account = :merchant_account)
             ORDER BY updated_at, payment_id LIMIT :page) p
      CROSS JOIN LATERAL (
            SELECT e.data ->> 'event' AS event, e.cause FROM payment_events e
             WHERE e.payment_id = p.payment_id AND e.kind = 'flow_moved'
             ORDER BY e.seq DESC LIMIT 1) moved
     ORDER BY p.updated_at, p.payment_id
    """  # noqa: S608  # a constant
)


def find_money_left(connection: Connection, look: Look) -> list[Finding]:
    """Return the payments that were given up, and for which the PSP holds or has taken money.

    Each is a case, once for the money that is left: what a person has settled is not told again
    until there is other money. While a case is open, every sweep tells of it.
    """
    found: list[Finding] = []
    for rows in _pages(connection, look):
        findings = [finding for row in rows if (finding := _finding(row))]
        found += _unsettled(connection, findings)
        if len(found) >= look.limit:
            break
    return found[: look.limit]


def _pages(connection: Connection, look: Look) -> Iterator[Sequence[RowMapping]]:
    """Yield candidates, those first of which nothing was heard for longest."""
    values = look.values | {
        "kind": STATUS_MISMATCH,
        "page": PAGE,
        "after_at": datetime.min.replace(tzinfo=UTC),
        "after": UUID(int=0),
    }
    while rows := connection.execute(CANDIDATES, values).mappings().all():
        yield rows
        if len(rows) < PAGE:
            return
        values |= {"after_at": rows[-1]["updated_at"], "after": rows[-1]["payment_id"]}


def _unsettled(connection: Connection, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without those about what a person has settled."""
    subjects = defaultdict(list)
    for finding in findings:
        if finding.case is not None:
            subjects[finding.merchant_account].append(finding.case.subject)
    settled = {
        subject
        for account, of_account in subjects.items()
        for subject in states_of_cases(connection, STATUS_MISMATCH, account, of_account)
    }
    return [one for one in findings if one.case is None or one.case.subject not in settled]


def _finding(row: RowMapping) -> Finding | None:
    payment = payment_of(row)
    money = _money_left(payment)
    # The case of a refund that came back says more (S8).
    if not money or (has_come_back(payment) and not row["is_told"]):
        return None
    told = " and ".join(f"{amount} {what}" for what, amount in money.items())
    how = payment.reason or row["event"]
    if row["cause"].startswith("operator:"):
        how = f"{row['event']} by {row['cause']}"
    return Finding(
        rule="S7",
        merchant_account=payment.merchant_account,
        subject=str(payment.payment_id),
        payment_id=payment.payment_id,
        version=payment.version,
        state=payment.state,
        since=payment.updated_at,
        action=Action.PAGE if row["is_told"] else Action.ESCALATE,
        why=f"{told}; {how}",
        case=None if row["is_told"] else _case(payment, told, money.values()),
    )


def _money_left(payment: Payment) -> dict[str, Money]:
    """Return what is left, by what it is. What a chargeback took is not ours to give back."""
    funds = payment.funds
    left = {"held": funds.held, "kept": funds.kept - funds.charged_back}
    return {what: _money(minor, payment) for what, minor in left.items() if minor > 0}


def _case(payment: Payment, told: str, money: Iterable[Money]) -> Case:
    return Case(
        kind=STATUS_MISMATCH,
        merchant_account=payment.merchant_account,
        subject=f"{payment.payment_id}: {told}",
        payment_id=payment.payment_id,
        amount=_money(sum(amount.amount_minor for amount in money), payment),
    )


def _money(amount_minor: int, payment: Payment) -> Money:
    return Money(min(amount_minor, AMOUNT_MINOR_MAX), payment.amount.currency)
