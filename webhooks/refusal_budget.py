"""How much of a flood of refused webhooks is kept."""

from ipaddress import IPv6Address, ip_address
from threading import Lock

#: Of a process. The PSP's retries of one webhook are minutes apart: this is room for all it sends.
KEPT_A_MINUTE_MAX = 60

#: Of one address, so that one stranger who floods us leaves room for the PSP's refused webhooks.
KEPT_AN_ADDRESS_A_MINUTE_MAX = 10

#: A provider's customer is given at least so much of IPv6: the rest is his to choose.
_IPV6_NETWORK_BITS = 64


class RefusalBudget:
    """How many refusals may be kept in a minute, in all and of one address. Thread-safe.

    Only what is granted is counted, so that it remembers no more addresses than it grants.
    """

    def __init__(
        self,
        *,
        a_minute: int = KEPT_A_MINUTE_MAX,
        an_address_a_minute: int = KEPT_AN_ADDRESS_A_MINUTE_MAX,
    ) -> None:
        """Grant so many."""
        self._a_minute = a_minute
        self._an_address_a_minute = an_address_a_minute
        self._lock = Lock()
        self._minute = -1
        self._granted: dict[str, int] = {}

    def grant(self, address: str | None, *, at_seconds: float) -> bool:
        """Spend one of this minute's, or return False if none is left.

        Args:
            address: Whence the request came; addresses of one IPv6 network are one.
            at_seconds: Of a clock that never goes back.
        """
        network = _network(address)
        minute = int(at_seconds // 60)
        with self._lock:
            if minute != self._minute:
                self._minute, self._granted = minute, {}
            granted = self._granted.get(network, 0)
            if granted >= self._an_address_a_minute or self._is_spent():
                return False
            self._granted[network] = granted + 1
            return True

    def _is_spent(self) -> bool:
        return sum(self._granted.values()) >= self._a_minute


def _network(address: str | None) -> str:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return f"network {int(parsed) >> (parsed.max_prefixlen - _IPV6_NETWORK_BITS):x}"
