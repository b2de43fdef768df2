"""What Moorage counts and times, for Prometheus (docs/monitoring.md teaches what to make of it).

Below all other rooms, beside `model`, and a leaf: it imports nothing of ours but the model.
Each module has the meters of one room and the functions by which that room says what
happened; the room knows nothing of Prometheus.

What may be a label: the names of our own routes, verbs, statuses and error types, each from
a set that is bounded whatever tenants and engines do. Never a name, an id, or a reason's text.
One process tells of itself; a process that only serves or only conducts has the other's
meters at zero, or without a series.
"""
