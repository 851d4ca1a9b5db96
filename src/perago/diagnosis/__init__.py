"""Answers for operators: Conductor's queues (`queues`), and the checks of `perago doctor` (`doctor`). This room neither
prints nor ends a command."""
