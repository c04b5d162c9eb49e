"""What a person is told about a payment that waits for one."""

from app.domain.payment import Payment


def next_step(payment: Payment, step: str | None) -> str:
    """Say what to do next about a payment in ``manual_review``.

    Args:
        payment: As it stands.
        step: The step whose undo failed, if one did.
    """
    if step == "booking_confirmation":
        return "Cancel the booking by hand, then skip; or resume to let it be asked again."
    if step is not None:
        held, kept = payment.funds.held, payment.funds.kept
        return (
            f"The PSP holds {held} and has paid us {kept} (minor units): give it back there, then"
            " skip; or resume to let it be asked again."
        )
    return (
        "The capture stayed without an outcome: look at the PSP, then skip if it was captured, or"
        " resume to ask again, or abandon to undo everything."
    )
