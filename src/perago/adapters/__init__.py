"""The ports on the servers' REST APIs: `lakefs` is a `WorkspaceStore`, `conductor` a `TaskQueue`."""
