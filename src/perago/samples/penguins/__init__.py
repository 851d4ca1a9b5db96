"""The workflow of `perago demo`: the Palmer penguins as they were recorded are cleaned, measured on all islands at the
same time, and summed up. `workflow.json` is its definition for Conductor.

`data/SOURCE.md` names the source of the tables, which are in the public domain.
"""
