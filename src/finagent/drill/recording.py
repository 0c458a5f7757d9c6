"""What a folder's processes asked of the disk, in the order in which it was done: read from the log of strace.

Only files below the folder are kept, `-shm` files apart (SQLite makes them anew). A call that changes such a file and that is not
known here is refused: a recording with a hole would prove nothing.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from finagent.domain.errors import Unavailable

STORAGE, ACKNOWLEDGEMENTS, LOG = "storage", "acknowledged.jsonl", "strace.log"  # in the workspace of a recording
_CALLS = (
    "open,openat,creat,write,pwrite64,lseek,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat,renameat2,mmap",
    "pwritev,pwritev2,writev,truncate,fallocate,link,linkat,copy_file_range,sendfile,splice,sync_file_range",
)
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_FILE = r"(\d+)<((?:\\x[0-9a-f]{2})*)>(?:\(deleted\))?"
_PLACE = rf"(?:AT_FDCWD)?(?:\d+)?<((?:\\x[0-9a-f]{{2}})*)>, {_TEXT}"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)", re.DOTALL)
_RESULT = re.compile(r"\)\s+= (-?\d+|\?|0x[0-9a-f]+)(?:<((?:\\x[0-9a-f]{2})*)>)?[^)]*(?:\([^)]*\)\s*)*$")
_ON_FILE = re.compile(_FILE)
_WRITE = re.compile(rf"{_FILE}, {_TEXT}, \d+(?:, (\d+))?$")
_OPENED = re.compile(rf"{_PLACE}, ([A-Z_|]+)|{_TEXT}, ([A-Z_|]+)")
_ANY_PLACE = re.compile(rf"{_PLACE}|{_TEXT}")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put into a file."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A file cut or stretched to a size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync of a file, or of the names in a folder ("" is the whole one), that has returned. It covers the events before number
    `began`."""

    file: str
    began: int


@dataclass(frozen=True, slots=True)
class Name:
    """A change of names: `new` alone is a file made, `old` alone one removed, both a file renamed."""

    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Noted:
    """The processes wrote down, by the side, what they asked to be stored or were told is stored."""

    line: bytes


Event = Write | Resize | Sync | Name | Noted


def command(log: Path) -> tuple[str, ...]:
    """What to put before a command so that it is recorded. Raises Unavailable where there is no strace."""
    strace = shutil.which("strace")
    if strace is None:
        raise Unavailable("strace is not installed, and only it can record what the agent writes (Debian: apt install strace)")
    calls = ",".join(f"?{call}" for call in ",".join(_CALLS).split(","))
    options = ("-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", str(1 << 26), "-e", f"trace={calls}", "-e", "signal=none")
    return (strace, *options, "-o", str(log))


def recorded_events(workspace: Path) -> list[Event]:
    """The events of a recorded workspace. Raises Unavailable when strace saw nothing, or something that is not known here."""
    folder, acknowledgements, log = (workspace.resolve() / name for name in (STORAGE, ACKNOWLEDGEMENTS, LOG))
    with log.open(encoding="ascii") as lines:
        events = list(_Reader(str(folder), str(acknowledgements)).events(lines))
    if not events:
        raise Unavailable(f"strace recorded nothing below {folder}; its log is {log}")
    return events


@dataclass(slots=True)
class _Reader:
    """Goes through the log once. Positions of descriptors are kept for what is written without an offset."""

    folder: str
    acknowledgements: str
    count: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    positions: dict[tuple[str, str], int | None] = field(default_factory=dict)  # (descriptor, path); None: at the end, always
    begun: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # (process, call) -> its arguments, events before

    def events(self, lines: Iterable[str]) -> Iterator[Event]:
        for line in lines:
            for event in self._of_line(line.rstrip("\n")):
                self.count += 1
                yield event

    def _of_line(self, line: str) -> Iterator[Event]:
        match = _LINE.match(line)
        if match is None:
            return  # the end of a process
        process, call, joint, rest = match.groups()
        if rest.endswith(_UNFINISHED):
            self.begun[process, call] = rest.removesuffix(_UNFINISHED), self.count
            return
        arguments, began = ("", self.count) if joint == "(" else self.begun.pop((process, call))
        result = _RESULT.search(rest)
        if result is None:
            raise Unavailable(f"strace wrote a line that is not understood: {line[:200]}")
        if result[1] == "?" or result[1].startswith("-"):
            return  # it failed, or its process ended in it: nothing is known to have been done
        arguments += rest[: result.start()]
        number = int(result[1], 0)
        match call:
            case "open" | "openat" | "creat":
                yield from self._opened(call, arguments, number, _decoded(result[2] or ""))
            case "unlink" | "unlinkat" | "rename" | "renameat" | "renameat2":
                yield from self._renamed(arguments, removed=call.startswith("unlink"))
            case _:
                yield from self._changed(call, arguments, number, began)

    def _opened(self, call: str, arguments: str, descriptor: int, path: str) -> Iterator[Event]:
        name = self._name(path)
        match = _OPENED.match(arguments)
        flags = "O_CREAT|O_TRUNC" if call == "creat" or match is None else match[3] or match[5] or ""
        self.positions[str(descriptor), path] = None if "O_APPEND" in flags else 0
        if name is None:
            return
        if name not in self.sizes and "O_CREAT" in flags:
            self.sizes[name] = 0
            yield Name(None, name)
        elif "O_TRUNC" in flags and self.sizes.get(name):
            self.sizes[name] = 0
            yield Resize(name, 0)

    def _renamed(self, arguments: str, *, removed: bool) -> Iterator[Event]:
        names = []
        for match in _ANY_PLACE.finditer(arguments):
            base, relative, alone = (_decoded(part) if part is not None else None for part in match.groups())
            names.append(self._name(str(PurePosixPath(base or "") / (relative or alone or ""))))
        old, new = names[0], None if removed else names[1]
        if old not in self.sizes:
            if new is not None:
                raise Unavailable(f"{new} was moved into the folder from elsewhere, which the recording does not know")
            return
        size = self.sizes.pop(old)
        if new is not None:
            self.sizes[new] = size
        yield Name(old, new)

    def _changed(self, call: str, arguments: str, result: int, began: int) -> Iterator[Event]:
        match = _ON_FILE.search(arguments)
        if match is None:
            return
        descriptor, path = match[1], _decoded(match[2])
        name = self._name(path)
        if call == "lseek":
            if self.positions.get((descriptor, path), 0) is not None:
                self.positions[descriptor, path] = result
        elif path == self.acknowledgements and call == "write":
            yield Noted(_written(arguments, result)[1])
        elif path == self.folder and call in ("fsync", "fdatasync"):
            yield Sync("", began)
        elif name is None:
            return
        elif call in ("fsync", "fdatasync"):
            yield Sync(name, began)
        elif call == "ftruncate":
            size = int(arguments.rsplit(", ", 1)[1], 0)
            self.sizes[name] = size
            yield Resize(name, size)
        elif call in ("write", "pwrite64"):
            yield self._write(name, (descriptor, path), *_written(arguments, result))
        elif call != "mmap" or ("PROT_WRITE" in arguments and "MAP_SHARED" in arguments):
            raise Unavailable(f"the agent changes {name} by {call}, which the recording does not know: the drill must learn it")

    def _write(self, name: str, key: tuple[str, str], offset: int | None, data: bytes) -> Write:
        if offset is None:
            position = self.positions.get(key, 0)
            offset = self.sizes.get(name, 0) if position is None else position
            if position is not None:
                self.positions[key] = offset + len(data)
        self.sizes[name] = max(self.sizes.get(name, 0), offset + len(data))
        return Write(name, offset, data)

    def _name(self, path: str) -> str | None:
        """The file's name in the folder; None for what is elsewhere or only shared memory."""
        if not path.startswith(self.folder + "/") or path.endswith("-shm"):
            return None
        return path[len(self.folder) + 1 :]


def _written(arguments: str, size: int) -> tuple[int | None, bytes]:
    """Where, if the call says so, and what was written."""
    match = _WRITE.match(arguments)
    if match is None:
        raise Unavailable(f"strace wrote a call that is not understood: {arguments[:200]}")
    return (int(match[4]) if match[4] else None), _bytes(match[3])[:size]


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _decoded(escaped: str) -> str:
    return _bytes(escaped).decode()
