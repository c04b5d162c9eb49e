"""The read side: what the API, the command line and the console show, as plain SQL."""
