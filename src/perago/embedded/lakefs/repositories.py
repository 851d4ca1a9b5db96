"""The modelled server's calls about repositories."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from perago.embedded.lakefs.errors import Exists, Invalid
from perago.embedded.lakefs.names import check_repository_name
from perago.embedded.lakefs.objects import ObjectCalls
from perago.embedded.lakefs.publishing import PublishingCalls
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.values import Page, RepositoryInfo, page_of

NAMESPACE = "local://"
_SAMPLES = {
    "README.md": b"# Sample data\n\nTwo files, so that there is something to look at.\n",
    "data/lakes.csv": b"name,country,depth_m\nBaikal,Russia,1642\nTanganyika,Tanzania,1470\nCaspian Sea,Iran,1025\n",
}


class RepositoryCalls(ObjectCalls, PublishingCalls):
    """Create, describe, list and delete repositories. Calls with the name of an unknown one raise `Missing`."""

    def create_repository(
        self,
        name: str,
        storage_namespace: str | None = None,
        *,
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
        sample_data: bool = False,
    ) -> RepositoryInfo:
        """Create a repository with one empty commit on its default branch; a `bare` one has neither.

        With `sample_data` there is a second commit with two files, and the default branch is protected.

        Raises:
            Invalid: a name or namespace that lakeFS refuses, or a namespace that has been used before (which is not
                looked at for a bare or read-only repository).
            Exists: the name is taken.
        """
        namespace = storage_namespace or f"{NAMESPACE}{name}"
        check_repository_name(name)
        with self._lock:
            if name in self._repositories:
                raise Exists("error creating repository: not unique")
            if not namespace.startswith(NAMESPACE):
                raise Invalid(f"failed to match required regex ^{NAMESPACE}: invalid namespace")
            if not (bare or read_only):
                self._take(namespace)
            info = RepositoryInfo(name, namespace, default_branch or "main", self._now(), read_only)
            made = self._repositories[name] = Repository(info, bare=bare)
            if sample_data and not bare:
                for path, content in _SAMPLES.items():
                    self.put_object(name, info.default_branch, path, content, force=True)
                self.commit(name, info.default_branch, "Add sample data", force=True)
                made.protected = (info.default_branch,)
            return info

    def _take(self, namespace: str) -> None:
        place = posixpath.normpath(namespace.removeprefix(NAMESPACE).lstrip("/"))
        if place.split("/")[0] in (".", ".."):
            raise Invalid("failed to create repository: failed to access storage")
        if f"{NAMESPACE}{place}" in self._namespaces:
            raise Invalid(
                f"failed to create repository: found lakeFS objects in the storage (:{namespace}) key(_lakefs/dummy): "
                "storage namespace already in use"
            )
        self._namespaces.add(f"{NAMESPACE}{place}")

    def get_repository(self, name: str) -> RepositoryInfo:
        """Describe a repository."""
        return self._repository(name).info

    def list_repositories(
        self, *, prefix: str = "", after: str = "", search: str = "", amount: int = -1
    ) -> Page[RepositoryInfo]:
        """One page of repositories, by name; `search` is any part of the name."""
        with self._lock:
            found = [self._repositories[name].info for name in sorted(self._repositories) if name > after]
        shown = (info for info in found if info.name.startswith(prefix) and search in info.name)
        return page_of(shown, lambda info: info.name, amount)

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Delete a repository; a read-only one only with `force`. Its namespace stays used."""
        with self._open_to_write(name, force):
            del self._repositories[name]

    def get_metadata(self, name: str) -> Mapping[str, str]:
        """The repository's own metadata."""
        with self._open(name) as repo:
            return dict(repo.metadata)

    def set_metadata(self, name: str, metadata: Mapping[str, str]) -> None:
        """Add to the repository's metadata. Adding nothing never fails, however unknown the repository."""
        if metadata:
            with self._open(name) as repo:
                repo.metadata.update(metadata)

    def delete_metadata(self, name: str, keys: Sequence[str]) -> None:
        """Remove keys from the repository's metadata; missing ones are fine."""
        with self._open(name) as repo:
            for key in keys:
                repo.metadata.pop(key, None)

    def protected_branches(self, name: str) -> tuple[str, ...]:
        """The patterns of the branches that only merges and reverts write to."""
        with self._open(name) as repo:
            return repo.protected

    def protect_branches(self, name: str, patterns: Sequence[str]) -> None:
        """Replace those patterns; `*` stands for any text."""
        with self._open(name) as repo:
            repo.protected = tuple(dict.fromkeys(patterns))
