"""A whole install in one file, taken while it runs, and put back elsewhere.

    take(settings, stream)              database, keys, Keystone, settings -> one archive
    with opened(stream, near) as it:    unpacked and checked, or Refused with the reason
        place(it, state)                put back

What is in an archive is in `archive.py`, what a check looks at in `check.py`. An archive
holds every secret of the install: whoever has it, has the install.
"""

from moorage.backup.archive import Manifest
from moorage.backup.check import Opened, opened
from moorage.backup.restore import RESTORING, leftovers, place, refuse_occupied
from moorage.backup.take import take

__all__ = [
    "RESTORING",
    "Manifest",
    "Opened",
    "leftovers",
    "opened",
    "place",
    "refuse_occupied",
    "take",
]
