"""Processes of a running instance die again and again, and webhooks come again and again."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import Any

import psutil

from tests.support.deliveries import deliver_bytes
from tests.support.instance import RunningInstance
from tests.support.processes import Process

#: Pauses between two kills, drawn evenly. Shorter than a lease, so that what a dead worker held is
#: often still held when the next one dies.
KILL_PAUSE_SECONDS = (2.0, 5.0)
ECHO_PAUSE_SECONDS = 0.5

_DELIVERED = "SELECT body FROM webhooks WHERE state = 'delivered' ORDER BY random() LIMIT 10"


@dataclass
class Havoc:
    """What is done to an instance, and how often.

    Attributes:
        kills: How often which process was killed.
        echoes: How often a webhook that was delivered before got which status when it came again;
            None if the connection broke.
    """

    instance: RunningInstance
    choices: Random
    kills: Counter[str] = field(default_factory=Counter)
    echoes: Counter[int | None] = field(default_factory=Counter)
    _is_over: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Describe the second worker, which nobody but this class starts again."""
        self._second_worker = Process(["worker"], {"COUNTERSIGN_HOME": str(self.instance.home)})
        self._victims: dict[str, tuple[int, Callable[[], bool]]] = {
            "worker": (2, lambda: self._kill_role("worker")),
            "second worker": (4, self._kill_second_worker),
            "one web process": (3, self._kill_one_web_process),
            "all of web": (1, lambda: self._kill_role("web")),
        }

    @contextmanager
    def reigning(self) -> Iterator[None]:
        """Wreak havoc while the block runs. The second worker ends with it."""
        self._second_worker.start()
        threads = [Thread(target=self._kill), Thread(target=self._echo)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()
            self._second_worker.kill_9()

    def _kill(self) -> None:
        """Kill one of each first, and then by chance."""
        names = list(self._victims)
        weights = [weight for weight, _kill in self._victims.values()]
        first = self.choices.sample(names, len(names))
        while not self._is_over.wait(self.choices.uniform(*KILL_PAUSE_SECONDS)):
            name = first.pop() if first else self.choices.choices(names, weights)[0]
            with suppress(psutil.NoSuchProcess):  # it is being started again
                self.kills[name] += self._victims[name][1]()

    def _kill_role(self, role: str) -> bool:
        was_running = bool(self.instance.processes(role))
        self.instance.kill_9(role)
        return was_running

    def _kill_second_worker(self) -> bool:
        self._second_worker.kill_9()
        self._second_worker.start()
        return True

    def _kill_one_web_process(self) -> bool:
        serving = [child for web in self.instance.processes("web") for child in web.children()]
        if serving:
            self.choices.choice(serving).kill()
        return bool(serving)

    def _echo(self) -> None:
        while not self._is_over.wait(ECHO_PAUSE_SECONDS):
            for (body,) in ask_simulator(self.instance, _DELIVERED):
                self.echoes[deliver_bytes(self.instance.port, body.encode())] += 1


def ask_simulator(instance: RunningInstance, query: str) -> list[tuple[Any, ...]]:
    """Read the simulator's database past the simulator: it shows no bodies of webhooks."""
    path = instance.home / "simulator" / "simulator.sqlite3"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
