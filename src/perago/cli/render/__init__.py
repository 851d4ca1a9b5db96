"""How results and messages look. Results go to standard output, messages to standard error."""
