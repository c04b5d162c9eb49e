"""Benchmarks: ratios against a limit measured in the same run, never absolute numbers alone.

Each script runs alone (``.venv/bin/python bench/ingest.py [--json] [--rounds N] [--seconds S]``),
and ``make bench`` runs them all. What is compared takes turns, round by round, on the same stores
and cores; a line tells the median of the rounds' ratios, their spread and the target, and
``UNSTEADY`` if the rounds differ so much that they prove nothing. A request that is refused, or
that gets no answer, ends the run: what fails fast is not fast.

Everything stays on the loopback, bounded in count and time. The load shares the cores with what it
measures, so that a ratio is worth more than its rates, and on a busy machine the CPU time of a
request (``bench/ingest.py --cpu``) more than both.
"""
