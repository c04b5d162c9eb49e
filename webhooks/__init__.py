"""The PSP's webhooks, from the wire to the payment.

receiver -> notifications | platform -> keyring, signatures -> inbox   [one commit, then 200]
drain -> meanings -> app.services.record_fact                          [one commit for all due]

Beside the walk: ``refusals`` and ``diagnosis`` (what was not let in, and why), ``key_uses``,
``replay`` and ``retention``.
"""
