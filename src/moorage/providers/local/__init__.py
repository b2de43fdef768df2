"""Provider `local`: a node is an OCI bundle that runc runs on this machine.

Each cluster owns a *slot* of the machine (`slots.py`), and with it a range of
65,536 sub-ids, a network and a port. A node is a directory (`place.py`):

    <state>/nodes/<cluster uuid>/<node name>/
        config.json    the OCI bundle; its annotations are the node's marks
        root/          the private root, owned by the cluster's sub-ids

What is true of a node is read from there and from the kernel, never from a
database. The order in which things are made and taken away (`provider.py`) keeps
one promise at every moment: whatever exists is found from a node's directory.

A node's root is root in its own user namespace only. It sees the machine's /usr
read-only and nothing else of it; what it makes is counted in its cgroup
(`cgroups.py`) and dies with its pid 1.
"""

from moorage.providers.local.provider import LocalProvider

__all__ = ["LocalProvider"]
