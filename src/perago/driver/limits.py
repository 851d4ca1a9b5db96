"""What a deployment allows an attempt."""

from __future__ import annotations

from dataclasses import dataclass

from perago.settings.values import PublishFence


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds."""

    max_result_bytes: int = 1024 * 1024
    """`PERAGO_MAX_RESULT_BYTES`: a result travels whole in the publication's metadata."""
    max_workspace_bytes: int | None = None
    """`PERAGO_MAX_WORKSPACE_BYTES`; None: no limit."""
    history: int = 1000
    """Commits that are looked through between the branch head and the input ref."""
    publish_fence: PublishFence = PublishFence.AUTO
    """`PERAGO_PUBLISH_FENCE`: how strictly a publication insists on the publish fence."""
    answer_patience: float = 120.0
    """How long a question that harms nobody is asked again while its service does not answer."""
