"""What the kind `faults` does with a task function: plays it under conditions that production changes, one at a time.

`control` pins what may differ from run to run, `play` calls the function on a tree, `story` runs the attempts that
Conductor asks for after a death, and `checks` compares.
"""

from __future__ import annotations
