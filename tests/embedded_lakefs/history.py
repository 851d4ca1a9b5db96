"""Short words for making history on the modelled server's repository `repo`."""

from __future__ import annotations

from perago.embedded.lakefs import LakeFSServer, commits, objects, references

from .divergences import Changes


def commit(server: LakeFSServer, branch: str, changes: Changes, message: str = "m") -> str:
    for path, content in changes.items():
        if content is None:
            objects.delete_object(server.repository("repo"), branch, path)
        else:
            objects.put_object(server.repository("repo"), branch, path, content.encode())
    return commits.commit(server.repository("repo"), branch, message).commit.id


def contents(server: LakeFSServer, ref: str) -> dict[str, str]:
    return {entry.path: entry.blob.read().decode() for entry in objects.all_objects(server.repository("repo"), ref)}


def diverge(server: LakeFSServer, base: Changes, target: Changes, source: Changes) -> None:
    """`main` with `base` then `target`, `side` with `base` then `source`."""
    commit(server, "main", base)
    references.create_branch(server.repository("repo"), "side", "main")
    commit(server, "main", target)
    commit(server, "side", source)


def commit_on_new_branch(server: LakeFSServer, name: str, changes: Changes) -> str:
    references.create_branch(server.repository("repo"), name, "main")
    return commit(server, name, changes)
