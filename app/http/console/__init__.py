"""The web console: where operators look. It reads; it changes nothing."""
