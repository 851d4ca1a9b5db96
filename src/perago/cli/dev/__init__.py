"""What `perago dev` does: the embedded services, a worker process for every module, and reloads."""
