"""The command line: ``countersign``. Data on stdout, messages on stderr, JSON for programs."""
