"""Why a signature does not verify: what is claimed, what is known, what was tried, what it means.

``claims`` reads what a body says of itself, however broken; ``evidence`` loads what we know of whom
it names; ``trials`` and ``alterations`` try what may have gone wrong; ``diagnose`` puts it together
as ``findings``. Nothing here says a key, or the signature that would have been right.
"""
