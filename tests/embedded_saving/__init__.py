"""Tests of what `--state` keeps."""
