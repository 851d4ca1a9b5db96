"""Looking at a changed module without stopping for it."""

from __future__ import annotations

import threading

from perago.cli.dev.events import Checked, Post
from perago.cli.probe.process import ChildProcess


class Check:
    """Imports a module in a process that is thrown away, and posts what came of it."""

    def __init__(self, module: str, seconds: float, post: Post) -> None:
        self._module = module
        self._post = post
        self._child = ChildProcess(module, seconds, beside_threads=True)
        threading.Thread(target=self._run, name=f"perago-dev-check-{module}", daemon=True).start()

    def cancel(self) -> None:
        """End it at once; the result no longer matters."""
        self._child.cancel()

    def _run(self) -> None:
        with self._child:
            probed = self._child.result()
        self._post(Checked(self._module, probed))
