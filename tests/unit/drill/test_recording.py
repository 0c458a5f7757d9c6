"""The log of strace as events; what it cannot explain is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from finagent.domain.errors import Unavailable
from finagent.drill.recording import (
    ACKNOWLEDGEMENTS,
    LOG,
    STORAGE,
    Name,
    Noted,
    Resize,
    Sync,
    Write,
    command,
    recorded_events,
)


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


class Log:
    """Writes lines as strace does."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.lines: list[str] = []

    def path(self, name: str) -> str:
        return hexed(str(self.workspace / STORAGE / name) if name else str(self.workspace / STORAGE))

    def file(self, name: str, descriptor: int = 5) -> str:
        return f"{descriptor}<{self.path(name)}>"

    def opened(self, name: str, flags: str = "O_RDWR|O_CREAT|O_CLOEXEC", descriptor: int = 5, process: int = 7) -> None:
        place = f'AT_FDCWD<{hexed("/")}>, "{self.path(name)}"'
        self.line(f"openat({place}, {flags}, 0644) = {self.file(name, descriptor)}", process)

    def line(self, text: str, process: int = 7) -> None:
        self.lines.append(f"{process}  {text}\n")

    def events(self) -> list[object]:
        (self.workspace / LOG).write_text("".join(self.lines))
        return list(recorded_events(self.workspace))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path.resolve())


def test_writes_syncs_and_names(log: Log) -> None:
    log.opened("f.db")
    log.opened("f.db")  # again: it is there
    log.line(f'pwrite64({log.file("f.db")}, "{hexed("abc")}", 3, 4096) = 3')
    log.line(f"ftruncate({log.file('f.db')}, 100) = 0")
    log.line(f"fdatasync({log.file('f.db')}) = 0")
    log.line(f"fsync({log.file('')}) = 0")
    log.line(f'rename("{log.path("f.db")}", "{log.path("g.db")}") = 0')
    log.line(f'unlink("{log.path("g.db")}") = 0')
    log.line(f'unlink("{log.path("never.db")}") = -1 ENOENT (No such file or directory)')
    log.line("+++ exited with 0 +++")

    assert log.events() == [
        Name(None, "f.db"),
        Write("f.db", 4096, b"abc"),
        Resize("f.db", 100),
        Sync("f.db", 3),
        Sync("", 4),
        Name("f.db", "g.db"),
        Name("g.db", None),
    ]


def test_a_sync_covers_what_was_there_when_it_began(log: Log) -> None:
    log.opened("f.db")
    log.line(f"fdatasync({log.file('f.db')} <unfinished ...>", process=8)
    log.line(f'pwrite64({log.file("f.db")}, "{hexed("abc")}", 3, 0 <unfinished ...>')
    log.line("<... pwrite64 resumed>)             = 3")
    log.line("<... fdatasync resumed>)             = 0", process=8)

    assert log.events() == [Name(None, "f.db"), Write("f.db", 0, b"abc"), Sync("f.db", 1)]


def test_what_failed_or_was_cut_off_is_not_done_and_a_short_write_is_short(log: Log) -> None:
    log.opened("f.db")
    log.line(f"fdatasync({log.file('f.db')}) = -1 EIO (Input/output error) (INJECTED)")
    log.line(f"fdatasync({log.file('f.db')}) = ?")
    log.line(f'pwrite64({log.file("f.db")}, "{hexed("abc")}", 3, 0) = 2')

    assert log.events() == [Name(None, "f.db"), Write("f.db", 0, b"ab")]


def test_a_write_without_an_offset_goes_where_the_descriptor_stands(log: Log) -> None:
    log.opened("f", "O_WRONLY|O_CREAT")
    log.opened("f", "O_WRONLY|O_APPEND", descriptor=6)
    log.line(f'write({log.file("f")}, "{hexed("abcd")}", 4) = 4')
    log.line(f"lseek({log.file('f')}, 1, SEEK_SET) = 1")
    log.line(f'write({log.file("f")}, "{hexed("x")}", 1) = 1')
    log.line(f'write({log.file("f", 6)}, "{hexed("yz")}", 2) = 2')
    log.opened("f", "O_WRONLY|O_CREAT|O_TRUNC")

    assert log.events()[1:] == [Write("f", 0, b"abcd"), Write("f", 1, b"x"), Write("f", 4, b"yz"), Resize("f", 0)]


def test_acknowledgements_stand_in_their_order_and_other_files_do_not_count(log: Log) -> None:
    log.opened("f.db")
    log.line(f'write(9<{hexed(str(log.workspace / ACKNOWLEDGEMENTS))}>, "{hexed("told")}", 4) = 4')
    log.line(f'pwrite64({log.file("f.db-shm")}, "{hexed("abc")}", 3, 0) = 3')
    log.line(f'write(2<{hexed("/dev/null")}>, "{hexed("abc")}", 3) = 3')

    assert log.events() == [Name(None, "f.db"), Noted(b"told")]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ('pwritev({file}, [{{iov_base="\\x61", iov_len=1}}], 1, 0) = 1', "f.db by pwritev"),
        ("mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, {file}, 0) = 0x7f0000000000", "f.db by mmap"),
        ('rename("{elsewhere}", "{path}") = 0', "moved into the folder from elsewhere"),
        ("fdatasync({file}) and then nothing", "not understood"),
        ("pwrite64({file}, 0x7ffc, 3, 0) = 3", "not understood"),
    ],
)
def test_a_hole_in_the_recording_is_refused(log: Log, call: str, complaint: str) -> None:
    log.opened("f.db")
    log.line(call.format(file=log.file("f.db"), path=log.path("f.db"), elsewhere=hexed("/elsewhere")))

    with pytest.raises(Unavailable, match=complaint):
        log.events()


def test_an_empty_recording_is_refused(log: Log) -> None:
    with pytest.raises(Unavailable, match="recorded nothing"):
        log.events()


PROGRAM = """
import os, sys
storage = sys.argv[1]
descriptor = os.open(storage + "/f", os.O_RDWR | os.O_CREAT)
os.pwrite(descriptor, b"abc", 5)
os.ftruncate(descriptor, 6)
os.fsync(descriptor)
with open(storage + "/g.new", "wb") as file:
    file.write(b"x" * 100_000)
    file.flush()
    os.fdatasync(file.fileno())
os.rename(storage + "/g.new", storage + "/g")
folder = os.open(storage, os.O_RDONLY)
os.fsync(folder)
os.unlink(storage + "/f")
"""


def test_a_real_program_is_recorded(log: Log, strace: str) -> None:
    (log.workspace / STORAGE).mkdir()

    subprocess.run(
        [*command(log.workspace / LOG), sys.executable, "-c", PROGRAM, str(log.workspace / STORAGE)], check=True, timeout=60
    )

    assert list(recorded_events(log.workspace)) == [
        Name(None, "f"),
        Write("f", 5, b"abc"),
        Resize("f", 6),
        Sync("f", 3),
        Name(None, "g.new"),
        Write("g.new", 0, b"x" * 100_000),
        Sync("g.new", 6),
        Name("g.new", "g"),
        Sync("", 8),
        Name("f", None),
    ]


def test_no_strace_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="strace is not installed"):
        command(tmp_path / LOG)
