"""Passwords as argon2id hashes, by the library's parameters, in threads of their own and only a few at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Unavailable

AT_ONCE: Final = 2
"""Each takes 64 MiB and a core for a while."""
MAX_WAITING: Final = 32

T = TypeVar("T")


class Hasher:
    """Hashes and verifies. More than MAX_WAITING at once: Unavailable."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """The hash to keep."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether it is the password of this hash. With no hash it takes as long and is not."""
        return await self._run(self._verify, kept, password)

    def outdated(self, kept: str) -> bool:
        """Whether the hash is of weaker parameters than today's."""
        return self._hasher.check_needs_rehash(kept)

    def _verify(self, kept: str | None, password: str) -> bool:
        if not self._nobody:
            self._nobody = self._hasher.hash("nobody's password")
        try:
            return self._hasher.verify(kept or self._nobody, password) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *given: object) -> T:
        if self._waiting >= AT_ONCE + MAX_WAITING:
            raise Unavailable("too many passwords are being checked", retry_after=2.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads, after what they do now."""
        self._threads.shutdown(wait=False, cancel_futures=True)
