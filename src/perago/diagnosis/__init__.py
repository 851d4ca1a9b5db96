"""Answers for operators: what waits and who works (`queues`), what an attempt did (`attempts`,
`publications`). Nothing here prints, and nothing ends a command."""
