"""Benchmarks: ratios against a limit measured in the same run, never absolute numbers alone.

Each script runs alone (``.venv/bin/python bench/ingest.py [--json] [--rounds N] [--seconds S]``),
and ``make bench`` runs them all. Everything stays on the loopback, bounded in count and time.
"""
