"""The SDK is blocking and one `requests` session serves one thread: a fixed number of threads, each with a client of its own."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from alpaca.common.rest import RESTClient
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from finagent.adapters.broker.alpaca.policy import HttpPolicy

CHUNK_BYTES = 65_536
Request = Callable[[Any], Any]  # asks the client of the thread


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request came to: its result or its exception, and the headers of the answer, if there was one."""

    result: Any = None
    error: Exception | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class BoundedAdapter(HTTPAdapter):
    """Time-outs on every request, which the SDK sets on none, and no answer larger or slower than the policy allows."""

    def __init__(self, policy: HttpPolicy) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._policy = policy
        self.headers: Mapping[str, str] = {}

    def send(self, request: requests.PreparedRequest, *_positional: Any, **options: Any) -> requests.Response:
        """As HTTPAdapter, the whole body read under our bounds."""
        policy = self._policy
        until = time.monotonic() + policy.deadline_seconds
        options |= {"stream": True, "timeout": (policy.connect_seconds, policy.read_seconds)}
        response = super().send(request, **options)
        self.headers = response.headers
        try:
            response._content = self._body(response, until)
        except (HTTPError, OSError) as error:
            response.close()
            raise requests.ConnectionError("the answer broke off", request=request) from error
        response._content_consumed = True
        return response

    def close(self) -> None:
        """Close the connections now; urllib3 would when the collector comes by."""
        pools = self.poolmanager.pools
        for key in list(pools.keys()):  # it is no dict
            pools[key].close()
        super().close()

    def _body(self, response: requests.Response, until: float) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self._policy.answer_bytes_max:
                raise OSError(f"more than {self._policy.answer_bytes_max} bytes")
            if time.monotonic() > until:
                raise OSError("too slow")
        return bytes(body)


class ClientThread:
    """One thread with one client; it makes one request at a time and is busy until that returns, however long nobody waits."""

    def __init__(self, name: str, make_client: Callable[[], RESTClient], policy: HttpPolicy) -> None:
        self._make_client, self._policy = make_client, policy
        self._inbox: queue.Queue[tuple[Request, Callable[[Reply], None]] | None] = queue.Queue(maxsize=1)
        # a daemon: a broker that never answers cannot keep the process from ending
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def begin(self, request: Request, done: Callable[[Reply], None]) -> None:
        """Start a request on an idle thread; `done` is called on that thread."""
        self._inbox.put_nowait((request, done))

    def end(self, wait_seconds: float) -> None:
        """Let an idle thread end."""
        self._inbox.put_nowait(None)
        self._thread.join(wait_seconds)

    def _serve(self) -> None:
        client, adapter = self._make_client(), BoundedAdapter(self._policy)
        client._retry, client._retry_codes = 0, []  # the SDK repeats any method, POST too, on 429 and 504
        client._session.trust_env = False  # neither .netrc nor a proxy that the settings do not name
        for scheme in ("https://", "http://"):
            client._session.mount(scheme, adapter)
        with client._session:
            while (task := self._inbox.get()) is not None:
                request, done = task
                adapter.headers = {}
                try:
                    reply = Reply(request(client), headers=adapter.headers)
                except Exception as error:  # noqa: BLE001  # whatever it is, the caller judges it
                    reply = Reply(error=error, headers=adapter.headers)
                done(reply)


class ThreadPool:
    """Idle threads, taken one at a time. A thread whose caller left comes back when its request returns."""

    def __init__(self, count: int, name: str, make_client: Callable[[], RESTClient], policy: HttpPolicy) -> None:
        self._idle: asyncio.Queue[ClientThread] = asyncio.Queue(maxsize=count)
        self._closed = False
        for number in range(count):
            self._idle.put_nowait(ClientThread(f"{name}-{number}", make_client, policy))

    @property
    def idle(self) -> int:
        return self._idle.qsize()

    async def take(self) -> ClientThread:
        """An idle thread, when there is one."""
        return await self._idle.get()

    def give(self, thread: ClientThread) -> None:
        """Back, unused."""
        self._idle.put_nowait(thread)

    async def run(self, thread: ClientThread, request: Request, heard: Callable[[Reply], None]) -> Reply:
        """The reply of a thread that was taken; `heard` is told of it even when nobody waits any more."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()

        def returned(reply: Reply) -> None:
            if self._closed:
                thread.end(0)
                return
            self._idle.put_nowait(thread)
            heard(reply)
            if not answer.done():
                answer.set_result(reply)

        def done(reply: Reply) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(returned, reply)

        thread.begin(request, done)
        return await answer

    async def close(self, wait_seconds: float) -> None:
        """End the idle threads; one that waits for the broker ends when it has its answer, or with the process."""
        self._closed = True
        while not self._idle.empty():
            await asyncio.to_thread(self._idle.get_nowait().end, wait_seconds)
