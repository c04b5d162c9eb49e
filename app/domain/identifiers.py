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


def message_id(idempotency_key: str) -> UUID:
    """Return the id of the command that carries ``idempotency_key`` (UUIDv8, RFC 9562 section 5.8).

    It follows from the key, so that every retry of a command is the same message.
    """
    digest = hashlib.sha256(f"command|{idempotency_key}".encode()).digest()
    number = int.from_bytes(digest[:16])
    version_and_variant = (8 << 76) | (2 << 62)
    return UUID(int=(number & ~((0xF << 76) | (3 << 62))) | version_and_variant)
