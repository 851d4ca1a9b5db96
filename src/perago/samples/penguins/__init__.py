"""The workflow of `perago demo`: the Palmer penguins as they were recorded are cleaned, measured on all islands at the
same time, and summed up. `perago.samples.penguins.workflow` puts the steps together.

`data/SOURCE.md` names the source of the tables, which are in the public domain.
"""
