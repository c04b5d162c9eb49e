"""The saga: what it is as data, what it does next, and what carries it out.

``booking`` is the flow, written in the terms of ``definition``; ``decisions`` says what comes next,
from what is on record; ``orchestrator`` writes it down; ``runner`` makes the calls.
"""
