"""One process a store: a kernel lock beside the database, gone with the process that holds it."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from finagent.domain.errors import BadInput, Unavailable


class DatabaseLock:
    """Holds `<database>.lock` from `acquire` to `release` (or to the end of the process, however it ends).

    The file says who holds it, for the message of a second instance. The descriptor is not inherited by programs that this
    process starts; a fork of it must not outlive it.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; raises BadInput naming the holder when another process has it, Unavailable for an unwritable folder."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(f"cannot write {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 512, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise BadInput(f"{self.path.parent} is in use by {holder}: stop it, or choose another storage.directory") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held. The file stays: removing it would let two in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "DatabaseLock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
