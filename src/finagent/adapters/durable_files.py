"""Files that are there after a power cut, whole, or were never there."""

import os
import secrets
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """A new file, on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of whatever is there; whoever reads sees one or the other."""
    making = temporary_name(path)
    try:
        write_file(making, data)
        os.replace(making, path)
    finally:
        making.unlink(missing_ok=True)
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """A hidden place beside it that nobody else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def sync_file(path: Path) -> None:
    """Make what was written durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    sync_file(folder)


def append_file(path: Path, data: bytes) -> None:
    """At the end of a file, made where it is not there; on the disk when this returns. An error leaves the file as it was, a kill
    perhaps a part of the data."""
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    size = os.fstat(descriptor).st_size
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def folder_bytes(folder: Path) -> int:
    """Of all files in it and below; none where it is not there."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
