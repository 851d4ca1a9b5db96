"""Attempts of the past, run again: capture, replay and backtest.

Nothing here changes anything on a server: Conductor and lakeFS are only read.
"""
