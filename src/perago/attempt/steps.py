"""The steps of an attempt, in the order in which a successful one takes them."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """How far an attempt has come. Each name says what is already done."""

    RECEIVED = "received"
    VALIDATED = "validated"
    RECOVERED = "recovered"
    """The commits between the input ref and the branch head have been judged."""
    LISTED = "listed"
    """It is known which files the workspace has, and how large they are."""
    FETCHED = "fetched"
    PRE_CHECKED = "pre-checked"
    RAN = "ran"
    POST_CHECKED = "post-checked"
    PLANNED = "planned"
    """It is known what would be published. Nothing has been sent to lakeFS yet."""
    STAGED = "staged"
    COMMITTED = "committed"
    """The staging commit exists. The next thing to be sent is the merge, the only visible one."""
    PUBLISHED = "published"
    FAILED = "failed"
    """The outcome is a failure; what is left is to clean up and to report it."""
    LOST = "lost"
    """The delivery is no longer ours. Nothing is published or reported any more."""
    CLEANED = "cleaned"
    REPORTED = "reported"
