"""The routes, a module for each kind of object. Each has `routes(service) -> Router`."""
