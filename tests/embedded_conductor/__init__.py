"""Tests of the Conductor model."""
