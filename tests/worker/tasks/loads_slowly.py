"""Preloaded by the fork server: uses the processor until a file exists."""

import os
from pathlib import Path

while not Path(os.environ["TEST_LOADED"]).exists():
    pass
