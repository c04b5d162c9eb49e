"""``python -m tests.support.schema``: the migrations build what the tables say (`make check`)."""

from migrations import check, upgrade
from tests.support.stores import postgres

if __name__ == "__main__":
    with postgres() as url:
        upgrade(url)
        check(url)
