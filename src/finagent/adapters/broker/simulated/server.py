"""The broker as its own process behind a socket: one connection to its end, then the next."""

import argparse
import importlib
import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from finagent.adapters.broker.simulated.broker import SimulatedBroker
from finagent.adapters.broker.simulated.transport import FRAME_BYTES_MAX, LENGTH, parse_address, to_frame
from finagent.domain.errors import BadInput, Unavailable

BACKLOG = 64


class BrokerServer:
    """Listens from its construction on; `serve` answers until `stop` or SIGTERM.

    A frame that arrived whole is processed whether or not its sender still lives; half a frame is dropped.
    """

    def __init__(self, broker: SimulatedBroker, address: str) -> None:
        self._broker = broker
        self._address = address
        self._listener = _listen(address)
        self._connection: socket.socket | None = None
        self._stopped = False

    @property
    def address(self) -> str:
        """Where it listens; the port that the system chose, if port 0 was asked for."""
        if self._listener.family == socket.AF_UNIX:
            return self._address
        host, port = self._listener.getsockname()[:2]
        return f"tcp:{host}:{port}"

    def serve(self) -> None:
        """Blocks. Returns after `stop`, with the broker and the sockets closed."""
        try:
            while not self._stopped:
                try:
                    self._connection, _ = self._listener.accept()
                except OSError:
                    if self._stopped:
                        break
                    raise
                with self._connection:
                    self._converse(self._connection)
        finally:
            self._listener.close()
            self._broker.close()

    def stop(self) -> None:
        """End after the frame at hand; callable from another thread or a signal handler."""
        self._stopped = True
        for end in (self._listener, self._connection):
            if end is not None:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def _converse(self, connection: socket.socket) -> None:
        connected = True
        while not self._stopped:
            frame = _read_frame(connection)
            if frame is None:
                return
            try:
                request = json.loads(frame)
            except ValueError:
                return
            if not isinstance(request, dict):
                return
            answer = to_frame(self._broker.handle(request))
            if connected:
                try:
                    connection.sendall(answer)
                except OSError:
                    connected = False


def serve(broker: SimulatedBroker, address: str, listening: Callable[[str], None] | None = None) -> None:
    """Serve in this process until SIGTERM, which lets it finish the frame at hand; for a forked child as well as for the command
    below. `listening` is told the address as soon as it can be connected to."""
    server = BrokerServer(broker, address)

    def end(number: int, frame: FrameType | None) -> None:
        server.stop()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
    if listening is not None:
        listening(server.address)
    server.serve()


def main(arguments: list[str] | None = None) -> None:
    """`--broker module:callable` makes the broker from the JSON object `--arguments`; it listens at `--address`, which it
    prints as soon as it can be connected to (port 0: any that is free)."""
    parser = argparse.ArgumentParser(prog="python -m finagent.adapters.broker.simulated.server", description=main.__doc__)
    parser.add_argument("--broker", required=True, metavar="MODULE:CALLABLE")
    parser.add_argument("--arguments", default="{}", metavar="JSON")
    parser.add_argument("--address", required=True, metavar="unix:PATH | tcp:HOST:PORT")
    given = parser.parse_args(arguments)
    serve(_made(given.broker, json.loads(given.arguments)), given.address, lambda address: print(address, flush=True))


def _made(name: str, arguments: dict[str, Any]) -> SimulatedBroker:
    module, _, attribute = name.partition(":")
    made = getattr(importlib.import_module(module), attribute)(**arguments)
    if not isinstance(made, SimulatedBroker):
        raise BadInput(f"{name} made a {type(made).__name__}, not a SimulatedBroker")
    return made


def _listen(address: str) -> socket.socket:
    kind, place = parse_address(address)
    listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if kind == "unix":
            path, unready = Path(place[0]), Path(f"{place[0]}.new")
            unready.unlink(missing_ok=True)
            listener.bind(str(unready))
            unready.chmod(0o600)
            listener.listen(BACKLOG)
            unready.rename(path)  # whoever sees the path can connect
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((place[0], int(place[1])))
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(f"broker cannot listen at {address}: {error}") from error
    return listener


def _read_frame(connection: socket.socket) -> bytes | None:
    """The next whole frame; None at the connection's end, however it ended."""
    head = _read(connection, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    return _read(connection, length) if length <= FRAME_BYTES_MAX else None


def _read(connection: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = connection.recv(min(size - len(parts), 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    main()
