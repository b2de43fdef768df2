"""The releases of one engine on this machine: added, found, removed.

A release becomes whole in a directory beside the others, `.draft-…`, is brought to the disk,
and then gets its name by one rename: it is there with everything, or not at all. What a
killed `add` or `remove` left is swept by the next. One of them runs at a time.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.model.errors import Conflict, NotFound, Refused
from moorage.releases import archive, binary, checksum, elf, fetch, folder, release, told
from moorage.releases.binary import COREDNS, Binary
from moorage.releases.fetch import Tell
from moorage.releases.release import Release
from moorage.releases.version import Version, refuse_unknown

DIRECTORY = "releases"
ENGINE = "kubernetes"
_DRAFT, _REMOVED = ".draft-", ".removed-"
_STATE_MODE = 0o711
"""As the server makes it: a node's root passes through it and reads nothing there."""


@dataclass(frozen=True, slots=True)
class Added:
    """`is_new`: false where the very same release was there already, and nothing was done."""

    release: Release
    is_new: bool


class Releases:
    """Kubernetes' releases of the install in `state`. `architecture`: what they must be made for.

    `version_of` asks a program for its version. Whatever raises OSError (a full disk, no
    rights) has changed nothing either.
    """

    def __init__(
        self,
        state: Path,
        *,
        architecture: str | None = None,
        version_of: Callable[[Path], Version] = told.version_of,
    ) -> None:
        self.directory = state / DIRECTORY / ENGINE
        self._architecture = architecture or elf.here()
        self._version_of = version_of

    def list(self) -> Sequence[Release]:
        """Those that are whole, the newest first."""
        found = []
        for directory in self._directories():
            with contextlib.suppress(Refused):
                found.append(release.read(directory))
        return sorted(found, key=lambda each: each.version, reverse=True)

    def damaged(self) -> Sequence[str]:
        """Why those that `list` leaves out can't be used, each in a sentence."""
        reasons = []
        for directory in self._directories():
            try:
                release.read(directory)
            except Refused as damaged:
                reasons.append(damaged.reason)
        return reasons

    def get(self, version: Version) -> Release:
        """Raises NotFound, naming those that there are; Refused for one that is damaged."""
        directory = self.directory / str(version)
        if not directory.is_dir():
            there = ", ".join(str(each.version) for each in self.list()) or "none"
            raise NotFound(f"There is no release {version} of Kubernetes here; there is {there}.")
        return release.read(directory)

    def having(self, name: str) -> frozenset[str]:
        """The versions of which the release has this program."""
        return frozenset(path.parent.name for path in self.directory.glob(f"v*/{name}"))

    def newest(self) -> Release:
        """The last one by its version; what is before a release only where nothing else is there.

        Raises NotFound where there is none.
        """
        found = self.list()
        if not found:
            raise NotFound(
                "There is no release of Kubernetes here: moorage release add kubernetes --help"
            )
        return next((each for each in found if not each.version.pre), found[0])

    def add(
        self,
        source: str,
        sha512: str | None = None,
        *,
        coredns: Path | None = None,
        tell: Tell = lambda _: None,
    ) -> Added:
        """Take over the archive in `source` (a file or an URL), or a directory of binaries.

        `sha512` is the archive's: its digits, or the file or URL that holds them; None: it
        lies beside the archive. A directory has none, and is believed; so is the program
        `coredns`, which clusters of the release are to have.

        Raises Refused (Invalid, NotFound, Conflict) with what is wrong with it, RetryLater
        where it could not be fetched: nothing has changed then.
        """
        is_folder = not fetch.is_url(source) and Path(source).is_dir()
        if is_folder and sha512 is not None:
            raise Refused(f"{source} is a directory, which has no SHA-512: give the archive.")
        with self._held():
            wanted = None if is_folder else checksum.expected(source, sha512)
            for each in self.list():
                if wanted is not None and each.sha512 == wanted and coredns is None:
                    release.refuse_changed(each)
                    return Added(each, is_new=False)
            with self._draft() as draft:
                made = draft / "made"
                made.mkdir(mode=0o755)
                made.chmod(0o755)
                if wanted is None:
                    tell("copied")
                    binaries = folder.gather(Path(source), made)
                else:
                    binaries = _unpacked(source, wanted, draft, made, tell)
                if coredns is not None:
                    taken = folder.copied(coredns, made / COREDNS)
                    binaries |= {COREDNS: taken}
                tell("checked")
                return self._taken(made, binaries, fetch.shown(source), wanted)

    def remove(self, version: Version, users: Mapping[Version, Collection[str]]) -> None:
        """`users`: who runs on each version. Raises Conflict where somebody does, NotFound."""
        directory = self.directory / str(version)
        if names := sorted(users.get(version, ())):
            raise Conflict(
                f"Kubernetes {version} is in use by {', '.join(names[:5])}"
                f"{f' and {len(names) - 5} more' if len(names) > 5 else ''}: upgrade or delete "
                "these clusters first."
            )
        if not directory.is_dir():
            self.get(version)
        with self._held():
            gone = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=self.directory))
            try:
                directory.rename(gone / directory.name)
            except FileNotFoundError:
                raise NotFound(f"There is no release {version} of Kubernetes here.") from None
            finally:
                _sync(self.directory)
                shutil.rmtree(gone, ignore_errors=True)

    def _taken(
        self, made: Path, binaries: Mapping[str, Binary], source: str, sha512: str | None
    ) -> Added:
        """Give it its name, once it is what it should be."""
        for name in binaries:
            self._refuse_foreign(made / name)
        taken = Release(
            version=self._version(made),
            directory=made,
            binaries=binaries,
            architecture=self._architecture,
            source=source,
            sha512=sha512,
            added_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        place = self.directory / str(taken.version)
        if place.exists():
            there = release.read(place)
            release.refuse_changed(there)
            if there.binaries != taken.binaries:
                raise Conflict(
                    f"Kubernetes {taken.version} is there already with other programs (from "
                    f"{there.source}): remove that one first, or keep it."
                )
            return Added(there, is_new=False)
        _write(made / release.FILE, taken.written())
        _sync(made)
        made.rename(place)
        _sync(self.directory)
        return Added(release.read(place), is_new=True)

    def _refuse_foreign(self, path: Path) -> None:
        """Raises Refused for what can't run here."""
        program = elf.read(path)
        if program.architecture != self._architecture:
            raise Refused(
                f"{path.name} is made for {program.architecture}, and this machine is "
                f"{self._architecture}: take kubernetes-server-linux-{self._architecture}.tar.gz."
            )
        if program.interpreter is None:
            return
        # Of upstream's, the kubelet alone was linked to the C library until 1.35.
        if path.name != "kubelet" or not Path(program.interpreter).exists():
            raise Refused(
                f"{path.name} needs {program.interpreter}: take one that is linked statically, as "
                "upstream's are."
            )

    def _version(self, made: Path) -> Version:
        """What all of its programs say that they are. Raises Refused."""
        first, *others = binary.SERVERS
        version = self._version_of(made / first)
        refuse_unknown(version)
        for name in others:
            if (other := self._version_of(made / name)) != version:
                raise Refused(f"{first} is {version}, and {name} is {other}: not one release.")
        return version

    def _directories(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield from (path for path in self.directory.iterdir() if path.name.startswith("v"))

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Be the only one who changes the releases. Raises Conflict where another does.

        Directories are made for it, and taken away again where nothing came into them.
        """
        places = (self.directory, self.directory.parent, self.directory.parent.parent)
        missing = [path for path in places if not path.exists()]
        try:
            with self._locked():
                self._sweep()
                yield
        finally:
            for path in missing:
                with contextlib.suppress(OSError):  # it is in use now
                    path.rmdir()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        while True:
            self._make()
            try:
                descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    yield
                    return
            except BlockingIOError:
                raise Conflict(
                    "Another release is being added or removed just now: wait until that is done."
                ) from None
            finally:
                os.close(descriptor)

    def _make(self) -> None:
        for path, mode in (
            (self.directory.parent.parent, _STATE_MODE),
            (self.directory.parent, 0o755),
            (self.directory, 0o755),
        ):
            if not path.exists():
                with contextlib.suppress(FileExistsError):
                    path.mkdir(mode=mode, parents=True)
                    path.chmod(mode)

    def _sweep(self) -> None:
        for path in self.directory.iterdir():
            if path.name.startswith((_DRAFT, _REMOVED)):
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.directory))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _unpacked(source: str, wanted: str, draft: Path, made: Path, tell: Tell) -> dict[str, Binary]:
    file = draft / "archive"
    fetched = fetch.save(source, file, tell)
    checksum.refuse_other(fetched.sha512, wanted, source)
    tell("unpacked")
    binaries = archive.unpack(file, made)
    file.unlink()
    return binaries


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
