"""The command line: ``countersign``. Data on stdout, messages on stderr, ``--json`` for programs."""
