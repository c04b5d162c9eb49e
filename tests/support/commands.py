"""The ``countersign`` command as people run it: a process, its output and its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever was printed
        """Read stdout as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Return the lines of stdout."""
        return self.out.splitlines()


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """Runs ``countersign`` against one database and one Redis."""

    settings: Settings
    home: Path

    def __call__(self, *arguments: str, **environment: str) -> Ran:
        """Run one command to its end."""
        inherited = {"PATH": os.environ["PATH"]}  # noqa: TID251  # a child needs it
        ran = subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=ROOT,
            env={
                **inherited,
                "DATABASE_URL": self.settings.database_url.get_secret_value(),
                "REDIS_URL": self.settings.redis_url.get_secret_value(),
                "COUNTERSIGN_ENCRYPTION_KEYS": self.settings.encryption_keys.get_secret_value(),
                "COUNTERSIGN_HOME": str(self.home),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Ran(code=ran.returncode, out=ran.stdout, err=ran.stderr)
