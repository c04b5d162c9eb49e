"""How identifiers that we derive are made; fresh ones come from ``app.services.ports.NewId``."""

import hashlib
from uuid import UUID


def step_key(saga_id: UUID, step: str, direction: str, round_: int) -> str:
    """Return the idempotency key of an outside call: 64 hex digits, the PSP's longest.

    The same saga, step, direction and round give the same key on every retry, on every host, so
    that a call can be repeated for as long as its outcome is unknown and happens once. A new
    ``round_`` is a new decision to act (a payment that has to be undone a second time), never a
    retry. The step's name is in it, since the PSP's keys are not scoped to an endpoint
    (psp-webhooks.md section 6).
    """
    return hashlib.sha256(f"{saga_id}|{step}|{direction}|{round_}".encode()).hexdigest()


def request_key(decision_key: str, *request: str) -> str:
    """Return the key of one of several requests that a decision may lead to; 64 hex digits."""
    return hashlib.sha256("|".join((decision_key, *request)).encode()).hexdigest()
