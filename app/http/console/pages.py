"""The console's pages: the overview, the payments, one's timeline, the desk, the PSP's queue.

One signs in with an API key. A page shows what the key may see: its own merchant account. The
session is a signed cookie that scripts can't read and other sites can't send; it holds the key's
id, never the key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from flask import (
    Blueprint,
    Flask,
    Response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from sqlalchemy import Engine
from werkzeug.wrappers import Response as AnyResponse

from app.clock import Clock
from app.domain.access import Caller, Role
from app.domain.flow import REST_STATES, FlowState
from app.errors import PaymentNotFound, Unauthenticated
from app.http.auth import Authenticate
from app.http.schemas import is_printable
from app.queries.breaks import open_breaks
from app.queries.overview import overview
from app.queries.payments import PaymentFilter, get_payment, list_payments
from app.queries.psp_queue import psp_queue
from app.queries.reviews import open_review, open_reviews
from app.queries.timeline import timeline
from app.queries.waiting import waiting_webhooks

#: Who may look. A checkout's own key is for machines.
VIEWERS = frozenset({Role.OPERATOR, Role.APPROVER, Role.AUDITOR})

SESSION_LIFETIME = timedelta(hours=8)
PAGE_ITEMS = 25

#: The pages bring everything with them: no script runs, nothing is loaded from elsewhere.
_CONTENT_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'"

FindCaller = Callable[[UUID], Caller]


def configure_sessions(flask_app: Flask, secret: bytes, *, is_https: bool) -> None:
    """Sign sessions with ``secret``; every web process must be given the same.

    Args:
        flask_app: The application.
        secret: 32 bytes.
        is_https: True if the console is reached over https: the cookie never leaves it then.
    """
    flask_app.secret_key = secret
    flask_app.config.update(
        SESSION_COOKIE_NAME="countersign_console",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=is_https,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=SESSION_LIFETIME,
    )


@dataclass(frozen=True, kw_only=True)
class Console:
    """The pages.

    Attributes:
        authenticate: Looks an API key up at sign-in.
        find_caller: Looks it up again at every page, so that a revoked key's session ends at once.
        engine: Read from here.
        clock: Tells ages.
    """

    authenticate: Authenticate
    find_caller: FindCaller
    engine: Engine
    clock: Clock

    def blueprint(self) -> Blueprint:
        """Return the console's routes, below ``/console``; ``/`` leads there."""
        blueprint = Blueprint(
            "console",
            __name__,
            template_folder="templates",
            static_folder="static",
            static_url_path="/console/static",
        )
        blueprint.register_error_handler(Unauthenticated, _ask_to_sign_in)
        blueprint.register_error_handler(PaymentNotFound, _not_found)
        blueprint.after_request(_protect)
        blueprint.get("/", endpoint="front")(_front)
        blueprint.get("/console/", endpoint="home")(self.home)
        blueprint.get("/console/sign-in", endpoint="sign_in")(self.sign_in)
        blueprint.post("/console/sign-in", endpoint="check_key")(self.check_key)
        blueprint.post("/console/sign-out", endpoint="sign_out")(self.sign_out)
        blueprint.get("/console/payments", endpoint="payments")(self.payments)
        blueprint.get("/console/payments/<uuid:payment_id>", endpoint="payment")(self.payment)
        blueprint.get("/console/reviews", endpoint="reviews")(self.reviews)
        blueprint.get("/console/psp-queue", endpoint="psp_queue")(self.psp_queue)
        return blueprint

    def sign_in(self) -> str:
        """Ask for a key."""
        return render_template("console/sign_in.html", is_refused=False)

    def check_key(self) -> AnyResponse | tuple[str, int]:
        """Open a session for a key that may look."""
        try:
            caller = self.authenticate(request.form.get("api_key", "").strip())
        except Unauthenticated:
            caller = None
        if caller is None or caller.role not in VIEWERS:
            return render_template("console/sign_in.html", is_refused=True), 401
        session.clear()
        session.permanent = True
        session["key_id"] = str(caller.key_id)
        return redirect(url_for("console.home"))

    def sign_out(self) -> AnyResponse:
        """End the session."""
        session.clear()
        return redirect(url_for("console.sign_in"))

    def home(self) -> str:
        """Show what moves, what waits and what does not agree."""
        caller = self._viewer()
        account = caller.merchant_account
        with self.engine.connect() as connection:
            return render_template(
                "console/home.html",
                caller=caller,
                overview=overview(connection, merchant_account=account, now=self.clock.now()),
                breaks=open_breaks(connection, merchant_account=account),
                rest_states=REST_STATES,
            )

    def payments(self) -> str:
        """List payments, by reference and state."""
        caller = self._viewer()
        sought = request.args.get("q", "").strip()
        state = request.args.get("state", "")
        wanted = PaymentFilter(
            merchant_account=caller.merchant_account,
            any_reference=sought if sought and is_printable(sought) else None,
            state=state if state in set(FlowState) else None,
            cursor=request.args.get("cursor"),
            limit=PAGE_ITEMS,
        )
        with self.engine.connect() as connection:
            page = list_payments(connection, wanted)
        return render_template(
            "console/payments.html",
            caller=caller,
            page=page,
            sought=sought,
            state=state,
            states=list(FlowState),
        )

    def payment(self, payment_id: UUID) -> str:
        """Show one payment and everything that happened to it."""
        caller = self._viewer()
        with self.engine.connect() as connection:
            found = get_payment(connection, payment_id, merchant_account=caller.merchant_account)
            review = open_review(connection, payment_id, now=self.clock.now())
            history = timeline(connection, payment_id)
        return render_template(
            "console/payment.html",
            caller=caller,
            payment=found,
            review=review,
            items=history["items"],
        )

    def reviews(self) -> str:
        """Show the payments that wait for a person, and how to see to each."""
        caller = self._viewer()
        account = caller.merchant_account
        with self.engine.connect() as connection:
            waiting = open_reviews(connection, now=self.clock.now(), merchant_account=account)
        return render_template("console/reviews.html", caller=caller, reviews=waiting)

    def psp_queue(self) -> str:
        """Show whether the PSP gets through, and the webhooks that wait."""
        caller = self._viewer()
        account = caller.merchant_account
        with self.engine.connect() as connection:
            queue = psp_queue(connection, now=self.clock.now(), merchant_account=account)
            waiting = waiting_webhooks(connection, merchant_account=account)
        return render_template(
            "console/psp_queue.html", caller=caller, queue=queue, waiting=waiting
        )

    def _viewer(self) -> Caller:
        try:
            caller = self.find_caller(UUID(session.get("key_id", "")))
        except ValueError:
            raise Unauthenticated from None
        if caller.role not in VIEWERS:
            raise Unauthenticated
        return caller


def _front() -> AnyResponse:
    return redirect(url_for("console.home"))


def _ask_to_sign_in(_error: Unauthenticated) -> AnyResponse:
    session.clear()
    return redirect(url_for("console.sign_in"))


def _not_found(_error: PaymentNotFound) -> tuple[str, int]:
    return render_template("console/not_found.html"), 404


def _protect(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _CONTENT_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    if request.endpoint != "console.static":
        response.headers["Cache-Control"] = "no-store"
    return response
