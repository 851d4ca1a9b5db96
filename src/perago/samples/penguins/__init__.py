"""The workflow of `perago demo`: the Palmer penguins as they were recorded, cleaned, then made features.

`data/SOURCE.md` names the source of the tables, which are in the public domain.
"""
