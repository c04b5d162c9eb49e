"""A stand-in for the outside world: the PSP, the booking service, the fraud check, the mail server.

Only ``countersign up`` and the tests start it, as a process of its own (``python -m simulator``).
Production code never imports it, and it imports nothing of the product: signatures and money
rules are written here a second time, so that a mistake in the product can't hide behind itself.

    __main__       the command line: read the settings, start, wait for a signal, stop
    settings       what the command line and the environment decide
    clock          the only reader of the wall clock
    server         HTTP/1.1 with a thread a connection; can hold a request without answering
    application    the Flask application, made of the blueprints below
    world          what the blueprints share: settings, database, delivery, requests
    access         who may call
    database       the SQLite file that survives kill -9, and its tables
    idempotency    first responses by key, keys in progress, outages a key has met
    psp            Checkout API: the routes, and one answer per idempotency key
    authorisations Checkout API: POST /payments
    modifications  Checkout API: captures, cancels, refunds, reversals
    orders         Checkout API: request bodies into values, or the PSP's error
    triggers       the table of words in a holder name that ask for trouble
    payments       one payment's books and the rules that forbid or change them
    ledger         payments and modifications on disk, and the effects that come late
    notifications  a webhook item and its signature
    outbox         webhooks on disk: queued, scheduled, failing, delivered
    delivery       the threads that post them, with the PSP's blocking retry queue
    booking        the booking service
    fraud          the fraud check
    mail           the mail server
    inspection     GET /books, GET /health, POST /webhooks
    participant    a command line of its own: the booking service, asked by commands over HTTP

Money is an integer in minor units everywhere; times are seconds since the epoch inside and
ISO 8601 with an offset outside.
"""
