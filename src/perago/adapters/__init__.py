"""The ports on the official SDKs: `lakefs` is a `WorkspaceStore`, `conductor` a `TaskQueue`."""
