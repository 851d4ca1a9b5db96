"""The kind `faults`: calls a task function under conditions that production changes, one at a time.

`case` has the first attempt of a case, and calls its function again. `conditions` pins what may differ from run to run,
`interruptions` ends a call or fills its disk, and `checks` compares.
"""

from __future__ import annotations
