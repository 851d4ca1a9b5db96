"""Tests of running a workflow in one process tree."""
