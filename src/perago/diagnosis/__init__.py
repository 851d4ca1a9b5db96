"""Answers for operators: queues and workers (`queues`), attempts (`attempts`, `publications`), and the checks of
`perago doctor`. This room neither prints nor ends a command."""
