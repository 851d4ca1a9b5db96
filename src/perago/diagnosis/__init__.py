"""Answers for operators: Conductor's queues (`queues`), the checks of `perago doctor` (`doctor`), and the repair of
workflows (`operations`). This room neither prints nor ends a command."""
