"""The command line of a benchmark, and the lines that it prints."""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Rounds that differ by more prove nothing: something else had the cores, and a limit that
#: collapsed is no win.
SPREAD_MAX = 1.5


@dataclass(frozen=True)
class Arguments:
    """What every benchmark may be told.

    Attributes:
        rounds: How often everything is measured in turn.
        seconds: Of each measurement, warming up and preparing apart.
        flags: Those of the script's own flags that were given.
    """

    rounds: int
    seconds: float
    as_json: bool
    flags: frozenset[str]


def arguments(description: str | None, *, rounds: int = 5, **flags: str) -> Arguments:
    """Read the command line.

    Args:
        description: What the script measures.
        rounds: Unless told otherwise.
        flags: The script's own, each with its help.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", action="store_true", dest="as_json")
    for flag, meaning in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    given = parser.parse_args()
    return Arguments(
        rounds=given.rounds,
        seconds=given.seconds,
        as_json=given.as_json,
        flags=frozenset(flag for flag in flags if getattr(given, flag)),
    )


def compare(
    name: str,
    given: Arguments,
    measured: Callable[[], float],
    limit: Callable[[], float],
    *,
    target: str,
) -> None:
    """Measure both in turn, and print the ratio of their rates."""
    show(name, given, [(measured(), limit()) for _ in range(given.rounds)], target=target)


def show(
    name: str,
    given: Arguments,
    pairs: Sequence[tuple[float, float]],
    *,
    target: str,
    unit: str = "/s",
    each: str = "rounds",
) -> None:
    """Print a comparison.

    Args:
        name: What is compared.
        given: Says how to print it.
        pairs: What was measured and what it is held against, round by round.
        target: Of the ratio of the two.
        unit: Of both.
        each: What the pairs are.
    """
    ratios = [measured / limit for measured, limit in pairs]
    ratio = statistics.median(ratios)
    is_steady = max(ratios) <= SPREAD_MAX * min(ratios)
    one, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    if given.as_json:
        line: dict[str, object] = {
            "benchmark": name,
            "ratio": round(ratio, 3),
            "ratios": [round(each, 3) for each in ratios],
            "is_steady": is_steady,
            "target": target,
            "measured": round(one, 1),
            "limit": round(other, 1),
            "unit": unit,
        }
        print(json.dumps(line), flush=True)
        return
    doubt = "" if is_steady else " UNSTEADY"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {len(ratios)} {each}"
    print(
        f"{name}: {ratio:.2f}{doubt} ({spread}; target {target};"
        f" {one:.4g}{unit} against {other:.4g}{unit})",
        flush=True,
    )


def show_parts(name: str, given: Arguments, parts: dict[str, float], *, unit: str) -> None:
    """Print what something is made of, and the sum."""
    whole = sum(parts.values())
    if given.as_json:
        rounded = {kind: round(value, 1) for kind, value in parts.items()}
        print(json.dumps({"benchmark": name, **rounded, "unit": unit}), flush=True)
        return
    listed = ", ".join(f"{kind} {value:.0f}" for kind, value in parts.items())
    print(f"{name}: {whole:.0f}{unit} ({listed})", flush=True)
