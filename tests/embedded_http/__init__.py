"""Tests of both embedded services on one port."""
