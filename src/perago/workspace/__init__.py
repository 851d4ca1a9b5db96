"""The local side of an attempt: its private directory, the tree in it, and the changes of the function.

This room does not know lakeFS or Conductor. It has two kinds of paths: *keys* are object names in the repository,
*paths* are relative to the workspace with `/` between the parts. Names are bytes on disk and `str` here. Names that are
not UTF-8 contain surrogate escapes and cannot be keys.
"""
