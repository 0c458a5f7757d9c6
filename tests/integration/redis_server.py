"""A Redis of the tests' own, which may be emptied, killed and stopped."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.retry import Retry
from tests.conftest import without_service

START_ATTEMPTS = 200


class RedisServer:
    """`redis-server` on a socket in a folder, with nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> Redis:
        """A connection for the test itself; waits for a server that has just been started."""
        return Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.02), START_ATTEMPTS), retry_on_error=[LostConnection])

    def start(self) -> None:
        """Returns when it answers."""
        options = ["--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--save", "", "--dir", str(self._folder)]
        command = shutil.which("redis-server")
        if command is None:
            without_service("no redis-server is installed (apt install redis-server)")
        self._process = subprocess.Popen([str(command), *options], stdout=subprocess.DEVNULL)
        with self.client() as client:
            client.ping()

    def kill(self) -> None:
        """SIGKILL: everything in it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def hang(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """One that is running; a short folder, since the name of a socket may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="fa-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
