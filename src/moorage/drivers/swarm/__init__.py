"""Driver `swarm`: a Docker Engine in Swarm mode on every node.

Every engine serves its API over TLS on port 2376 of its node, to clients with a
certificate of the cluster's own CA; the conductor reaches each of them that way, and
enters a node only to start the engine, or to give it new certificates.

    naming.py       what nodes and their hosts are called
    front.py        what stands before an engine and speaks TLS for it
    engine.py       the engine's configuration, and the script that starts both
    observation.py  what there is: the engines, and the swarm as a manager tells it
    health.py       what of it is not as it should be, in words (pure)
    reconcile.py    the steps from there to what is wanted (pure)
    steps.py        the verbs of those steps
    acts.py         doing one step
    driver.py       the four methods that the conductor calls

A swarm lives in its managers' disks. A node that merely stopped is started again with
its disk and is the member that it was; a node that is lost is replaced by a new member.
Only where the last manager's disk is lost is the swarm lost too, and a new one is made.

A tenant's own choices are left alone: the availability of nodes, labels, promoted
workers, services, and members from elsewhere.
"""

from moorage.drivers.swarm.driver import SwarmDriver

__all__ = ["SwarmDriver"]
