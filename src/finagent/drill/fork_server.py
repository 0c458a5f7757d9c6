"""A process that has imported the agent and made the market, and holds no thread, lock or connection: its forks start at once.

Speaks JSON lines over one socket. It begins with `{"ready": true}`. A request `{"spawn": key, "log": path, ...}` is answered by
`{"spawned": key, "pid": ...}` and, when the child ends, by `{"ended": pid, "status": exit code or minus the signal}`. When the
socket closes, the server kills its children and leaves.
"""

import gc
import io
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Child = Callable[[dict[str, Any]], int]
_CHUNK_BYTES = 65536
_THREADS_END_SECONDS = 1.0


def serve(connection: socket.socket, child: Child) -> None:
    """Fork a child a request until the other side closes. Raises RuntimeError if this process is not fit to be forked."""
    _require_single_thread()
    gc.collect()
    gc.freeze()  # what is here stays shared: no child's collector touches these pages
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    inherited = (wake_read, wake_write, connection.fileno())
    children: set[int] = set()
    buffer = b""
    _say(connection, {"ready": True})
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            selector.select()
            _drain(wake_read)
            for pid, status in _reap(children):
                _say(connection, {"ended": pid, "status": status})
            try:
                received = connection.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            if not received:
                break
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = _fork(request, child, (*inherited, selector.fileno()))
                children.add(pid)
                _say(connection, {"spawned": request["spawn"], "pid": pid})
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _require_single_thread() -> None:
    """A thread that was joined leaves the kernel's list a moment later, so look for a while."""
    deadline = time.monotonic() + _THREADS_END_SECONDS
    while threads := _other_threads():
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"the fork server holds {threads} other threads: a fork of it could meet a lock nobody will release"
            )
        time.sleep(0.01)


def _other_threads() -> int:
    kernel = Path("/proc/self/task")
    return len(os.listdir(kernel)) - 1 if kernel.is_dir() else threading.active_count() - 1


def _fork(request: dict[str, Any], child: Child, inherited: tuple[int, ...]) -> int:
    """The parent returns the child's pid; the child never returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in inherited:
            os.close(descriptor)
        with Path(request["log"]).open("ab", buffering=0) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)  # the last words of a child that is killed are kept, too
        status = child(request)
    except BaseException:  # noqa: BLE001 - the child's last words; it must not unwind into the server's stack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap(children: set[int]) -> list[tuple[int, int]]:
    ended = []
    for pid in tuple(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, _CHUNK_BYTES):
            pass
    except BlockingIOError:
        pass


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")
