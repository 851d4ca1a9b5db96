"""`python -m perago`."""

from __future__ import annotations

from perago.cli import main

if __name__ == "__main__":  # spawned slot processes import this module, too
    main()
