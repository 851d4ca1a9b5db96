"""The work of `perago dev`: embedded services, a worker process for every module, and reloads."""
