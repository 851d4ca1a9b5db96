"""Answers for operators: what waits and who works (`queues`), what an attempt did (`attempts`,
`publications`), and the checks of `perago doctor`. Nothing here prints, and nothing ends a command."""
