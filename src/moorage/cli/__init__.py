"""The command line: what an operator runs on the machine, and what a tenant runs anywhere.

`server.py` (up, down, serve), `doctor.py` and `demo.py` work on this machine; the
tenant's commands (`clusters.py`, `templates.py`) speak HTTP only, so that they work
against any container-infra service. Imports that cost time are made where a command
starts: `moorage --help` must feel instant.
"""
