"""One body per scenario, the target a parameter: what passes on the models passes on the real servers.

rest.py          the client that scenarios speak through, and its transcript
normal.py        makes transcripts of two servers comparable
scenario.py      the registry
recordings.py    what a real server answered, one line an exchange, under fixtures/recordings/
targets.py       the servers that a scenario can run on
record.py        runs scenarios on a real server and keeps what it answers
lakefs/, conductor/   the scenarios, grouped by what they are about
"""
