"""Where API servers of clusters ask about tokens of Keystone's, as the settings have it.

The conductor tells masters, the API listens, and the packet filter lets them pass: in one
process or in several, all have it from here.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from moorage.model.sign_in import PURPOSE, SignIn
from moorage.networks import Door
from moorage.settings import Settings
from moorage.trust import ClusterAuthority, Seal, authority_from

HTTPS = 443


def told(settings: Settings) -> SignIn | None:
    """What masters are told; None: nothing, so that they take no such tokens."""
    asked = _url(settings)
    return SignIn(asked, authority(settings).certificate) if asked else None


def authority(settings: Settings) -> ClusterAuthority:
    """The listener's CA: one for all processes of an install, by the key file that they share."""
    return authority_from(PURPOSE, Seal.load_or_create(settings.seal_file).secret(PURPOSE))


def host(settings: Settings) -> str:
    """The address of this machine to listen on."""
    return settings.sign_in_host or public_address()


def door(settings: Settings) -> Door | None:
    """What the packet filter lets masters come to: it has an effect where the address is one of
    this machine's. A name is taken for another machine."""
    asked = urlsplit(_url(settings) or "")
    try:
        return Door(IPv4Address(asked.hostname or ""), asked.port or HTTPS)
    except ValueError:
        return None


def _url(settings: Settings) -> str | None:
    """A conductor alone does not know where the API is, unless it is told."""
    here = settings.sign_in_port and settings.only != "conductor"
    return settings.sign_in_url or (
        f"https://{host(settings)}:{settings.sign_in_port}" if here else None
    )


def public_address() -> str:
    """This machine's address on the way to anywhere else; loopback where there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a UDP socket sends nothing: the kernel only chooses the route.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
