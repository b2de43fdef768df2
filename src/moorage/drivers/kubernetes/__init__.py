"""Driver `kubernetes`: upstream's own programs on every node.

A master runs etcd, API server, controller-manager and scheduler; every node, masters too
unless they are hosted, runs containerd, kubelet and kube-proxy. All of them are supervised
by runit within the node; of Moorage's own nothing runs there but the scripts that feed the
resolver (zones.py) and keep the pause image. The conductor reaches API
servers, kubelets and etcd over TLS, and enters a node only to lay files and to start what
they are for.

    naming.py         what nodes are called, and how they are marked in Kubernetes
    versions.py       what differs between releases: one table
    installed.py      which releases are here, and which labels may be asked for
    addresses.py      the ranges of services and pods
    hosting.py        whether masters are nodes of Kubernetes, or beside it
    place.py          what a node's programs are told of their cluster
    service.py        a program under runit
    control_plane.py  etcd, API server, controller-manager, scheduler: their arguments
    node_agents.py    containerd, kubelet, kube-proxy, the network of pods
    dns.py            the cluster's DNS: coredns.py, or recursor.py and zones.py
    access.py         kubeconfigs, and the objects that grant rights
    laying.py         all of a node's files: certificates, configurations, services
    script.py         the script that lays them and starts what they are for
    observation.py    what there is
    seen.py           ... and what follows from it about each node (pure)
    health.py         what of it is not as it should be, in words (pure)
    marking.py        labels and taints: what is wanted against what is there (pure)
    reconcile.py      the steps from there to what is wanted (pure)
    steps.py          the verbs of those steps
    acts.py           doing one step
    listening.py      hearing of changes
    driver.py         the four methods that the conductor calls

A cluster lives in its masters' etcd, on their disks. A node that merely stopped is started
again with its disk; a master of three that is lost is replaced by a new member of etcd.
Only where the last master's disk is lost is the cluster lost too, and a new one is made.
"""

from moorage.drivers.kubernetes.driver import KubernetesDriver

__all__ = ["KubernetesDriver"]
