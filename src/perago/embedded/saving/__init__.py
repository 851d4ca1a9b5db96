"""Keeping what the embedded services hold in a directory, and going on from there.

`kept_in` does all of it. `StateDirectory` is the directory: its lock, its journal, its blobs. `Keeper` writes down what
has changed, twice a second. What there is to write is known by `perago.embedded.conductor.saving` and
`perago.embedded.lakefs.saving`.
"""
