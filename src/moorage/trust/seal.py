"""Secrets at rest: sealed with a key that the operator holds, each bound to its place.

The key file has one key a line, 32 bytes in base64. The first one seals; all of them
open, so that a new key can be put on top of an old one. Lines starting with # are not
read. A sealed secret is

    1 byte: version (1) | 4 bytes: which key | 12 bytes: nonce | AES-256-GCM ciphertext

and its *context* (the uuid of the row it belongs to) is authenticated with it: bytes
moved to another row do not open there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from moorage.model.errors import Refused
from moorage.trust.derived import derived

VERSION = b"\x01"
KEY_BYTES, NAME_BYTES, NONCE_BYTES = 32, 4, 12


class SealBroken(Exception):
    """The sealed bytes were changed, moved to another row, or sealed with another key."""


class Seal:
    """Encrypts secrets for the database. `keys`: 32 bytes each, the first one seals."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a seal needs keys of {KEY_BYTES} bytes")
        self._current = _name(keys[0])
        self._first = keys[0]
        self._ciphers = {_name(key): AESGCM(key) for key in keys}

    @classmethod
    def load_or_create(cls, path: Path) -> Seal:
        """Read the key file; make it (mode 0600) where there is none.

        Of two processes that make it at once, both get the one key. Raises Refused for
        a file that others may read, or that holds no keys; it is never overwritten.
        """
        try:
            return cls(_read(path))
        except FileNotFoundError:
            _create(path)
            return cls(_read(path))

    @property
    def name(self) -> str:
        """Of the key that seals; no secret, and not to be had again from another key."""
        return self._current.hex()

    def has(self, name: str | None) -> bool:
        """Whether the key of that name is among these."""
        return name in [known.hex() for known in self._ciphers]

    def secret(self, purpose: str) -> bytes:
        """32 bytes for one purpose, by HKDF (RFC 5869) from the key that seals.

        The same in every process that has the key file, and others with another key.
        """
        return derived(self._first, f"seal {purpose}", 32)

    def seal(self, secret: bytes, context: str) -> bytes:
        header, nonce = VERSION + self._current, secrets.token_bytes(NONCE_BYTES)
        cipher = self._ciphers[self._current]
        return header + nonce + cipher.encrypt(nonce, secret, header + context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret that was sealed under the same context. Raises SealBroken."""
        header, rest = sealed[: 1 + NAME_BYTES], sealed[1 + NAME_BYTES :]
        cipher = self._ciphers.get(header[1:])
        if header[:1] != VERSION or cipher is None:
            raise SealBroken(f"the secret of {context} was sealed with a key that is not here")
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], header + context.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"the secret of {context} does not open") from error


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"moorage seal" + key).digest()[:NAME_BYTES]


def _read(path: Path) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise Refused(
                f"The key file {path} may be read by others (mode {mode:04o}): "
                f"run chmod 600 {path}, and consider its key known to them."
            )
        lines = [line.strip() for line in file.read().splitlines()]
    try:
        keys = [
            base64.b64decode(line, validate=True)
            for line in lines
            if line and not line.startswith(b"#")
        ]
    except binascii.Error:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise Refused(
            f"The key file {path} must hold keys of {KEY_BYTES} bytes in base64, one a line. "
            "Restore it from a backup: the clusters' CA keys don't open without it."
        )
    return keys


def _create(path: Path) -> None:
    """Whole or not at all: written beside, then linked to its name, which is never replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        beside.unlink()
