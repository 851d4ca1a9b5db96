"""The ports that the runtime uses, by one set of scenarios on every server: models, embedded servers, real ones."""
