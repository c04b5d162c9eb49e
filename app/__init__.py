"""The payment core, and the shell that runs it. Read downwards: a name imports only what is below.

    cli                                            the commands
    instance · server · worker                     the processes
    factory · supervisor · embedded                what they are made of
    bootstrap                                      the composition root
    http | webhooks | reconciliation               where requests, webhooks and cron come in
    persistence | gateways | sagas                 Postgres and Redis, the outside, the flow
    services | queries                             use cases with their ports, the read side
    domain                                         money, flow, funds, payment: no I/O at all
    errors · settings · failpoints · clock · logs · redis_client

Names joined by ``|`` do not import each other, with two exceptions that `pyproject.toml` spells
out: the sweep drains the inbox, and the drain opens units of work. `make check` holds the rule.

A webhook's way:   webhooks/receiver → notifications → signatures → inbox, then webhooks/drain →
                   meanings → app/services/record_fact → app/domain
A payment's way:   app/http/payments → app/services/start_payment → app/persistence, then
                   app/sagas/runner → decisions → booking → app/gateways
"""
