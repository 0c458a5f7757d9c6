"""Who has which role after a promotion or a rollback, and one writer at a time: the same in every registry."""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias

VERSION_FORM = re.compile(r"[a-z0-9][a-zA-Z0-9._-]{0,63}@[a-z0-9][a-zA-Z0-9._-]{0,63}")
_MOVE_TOGETHER = (Alias.CHAMPION, Alias.PREVIOUS)
_LOOK_SECONDS = 0.02


def known_form(version: str) -> str:
    """A version names a folder: what could name another place is none."""
    if not isinstance(version, str) or not VERSION_FORM.fullmatch(version):
        raise BadInput(f"{version!r} is no version: one looks like gap-logistic@3")
    return version


def require_single(alias: Alias) -> None:
    """BadInput for a role that moves with another one."""
    if alias in _MOVE_TOGETHER:
        raise BadInput(f"{alias.value} is given by promotion and rollback alone")


def require_no_role(aliases: Mapping[Alias, str], version: str) -> None:
    """BadInput for a version that somebody relies on."""
    roles = [alias.value for alias, has_it in aliases.items() if has_it == version]
    if roles:
        raise BadInput(f"{version} is {' and '.join(roles)}: it is not removed while it has a role")


def promoted(aliases: Mapping[Alias, str], version: str) -> dict[Alias, str]:
    """What changes when the version becomes champion: nothing where it is that already."""
    before = aliases.get(Alias.CHAMPION)
    if before == version:
        return {}
    return {Alias.CHAMPION: version} | ({Alias.PREVIOUS: before} if before else {})


def former(aliases: Mapping[Alias, str]) -> tuple[str, str]:
    """The champion, and the one to go back to. BadInput where there is none."""
    before, back = aliases.get(Alias.CHAMPION), aliases.get(Alias.PREVIOUS)
    if before is None or back is None or back == before:
        told = f"{before} is the previous champion already" if back else "no champion was replaced yet"
        raise BadInput(f"there is nothing to go back to: {told}; `finagent models promote` names a version")
    return before, back


@contextmanager
def one_writer(lock: Path, seconds: float) -> Iterator[None]:
    """Of all processes that know this lock. Transient where another one has held it for so long."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise Transient(f"another process has been writing {lock.parent} for {seconds:g} s") from error
                Event().wait(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)
