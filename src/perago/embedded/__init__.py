"""Conductor and lakeFS in memory, their time and their faults, and both over HTTP."""
