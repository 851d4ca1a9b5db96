"""One module per command: its function `command` and its `EXAMPLES`."""
