"""The local side of an attempt: its private directory, the tree in it, and what the function did to that tree.

Nothing here knows lakeFS or Conductor. Two sorts of paths occur: *keys* are object names in the repository, *paths*
are relative to the workspace with `/` between the parts. Names are bytes on disk and `str` here: what is not UTF-8
carries surrogate escapes and can be no key.
"""
