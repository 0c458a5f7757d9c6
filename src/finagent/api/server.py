"""uvicorn inside the agent's own loop, on sockets that are bound before anything else starts."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from finagent.domain.errors import BadInput, Unavailable

SHUTDOWN_SECONDS = 3
SOCKET_PATH_BYTES_MAX = 107  # of a Unix socket's address on Linux
CONCURRENCY_MAX = 64  # a slow or hostile client cannot take more of the loop than that


class _Server(uvicorn.Server):
    """Leaves the process's signals to the agent."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_port(host: str, port: int) -> socket.socket:
    """A listening TCP socket (port 0: any free one); raises Unavailable where the port is taken or may not be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        taken = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror or error}"
        raise Unavailable(
            f"http.port {port} on {host} {taken}; choose another with --set http.port=PORT (0: any free one)"
        ) from error
    return listening


def bind_control(path: Path) -> socket.socket:
    """The control socket, for its owner only (0600). The caller holds the folder's lock, so an old one is a dead process's."""
    address = str(path)
    if len(address.encode()) > SOCKET_PATH_BYTES_MAX:
        address = os.path.relpath(path)
    if len(address.encode()) > SOCKET_PATH_BYTES_MAX:
        raise BadInput(
            f"{path} is too long for a Unix socket ({SOCKET_PATH_BYTES_MAX} bytes): choose a shorter storage.directory"
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(address)
        path.chmod(0o600)  # before it listens, so nobody else was ever let in
        listening.listen()
    except OSError as error:
        listening.close()
        raise Unavailable(f"the control socket {path} cannot be made: {error.strerror or error}") from error
    return listening


@asynccontextmanager
async def serving(app: FastAPI, listening: socket.socket) -> AsyncIterator[None]:
    """Serve the application on the socket while the block runs; closes the socket at its end."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        limit_concurrency=CONCURRENCY_MAX,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=5,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task
        listening.close()
