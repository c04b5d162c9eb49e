"""``python -m tests.support.audit``: known vulnerabilities in the locked packages (`make check`).

A vulnerability fails the check. A service that can't be reached does not: it says nothing about the
code, and would make the check fail by chance. It is told loudly instead.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"


def main() -> int:
    """Audit the lock file; return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    options = ["--progress-spinner", "off", "--format", "json", "-r", str(LOCK)]
    audit = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(audit.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (audit.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"NOT AUDITED: the vulnerability service gave no answer: {last[:200]}")
        return 0
    skipped = sum(1 for found in dependencies if "skip_reason" in found)
    vulnerable = [found for found in dependencies if found.get("vulns")]
    for found in vulnerable:
        names = ", ".join(vulnerability["id"] for vulnerability in found["vulns"])
        print(f"{found['name']} {found['version']}: {names}")
    audited = len(dependencies) - skipped
    print(f"audited {audited} packages, {skipped} unknown to the service, {len(vulnerable)} bad")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
