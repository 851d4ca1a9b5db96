"""Scenarios of one server, in modules called `scenarios_<group>`."""
