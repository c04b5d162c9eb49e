"""What a mail address is: plain ASCII, as HTML's ``type=email`` takes it and mail carries it."""

import re

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"

_IS_DOMAIN = re.compile(_DOMAIN)
_IS_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_DOMAIN}")

#: RFC 5321 section 4.5.3.1: what a path may hold.
ADDRESS_LENGTH_MAX = 254


def is_mail_address(text: str) -> bool:
    """Tell whether ``text`` is one address: no name, no quotes, no comment, nothing to unfold."""
    return len(text) <= ADDRESS_LENGTH_MAX and _IS_ADDRESS.fullmatch(text) is not None


def is_domain(text: str) -> bool:
    """Tell whether ``text`` is a domain; an international one in its ``xn--`` form."""
    return len(text) <= ADDRESS_LENGTH_MAX and _IS_DOMAIN.fullmatch(text) is not None
