"""Answers for operators: what waits and who works (`queues`). Nothing here prints, and nothing ends a command."""
