"""What waits in the table, told on Redis Streams: one stream and one consumer group a service, and a stream of dead letters.

Entries hold references (id, type, service, status), never a payload, and are hints: the table alone says what a job is. An entry
may be doubled, late, lost or about a job that is gone. So every call here may be repeated, and every answer may be wrong.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

from redis import Redis as SynchronousRedis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError, ResponseError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from finagent.adapters.database.writer import Moved
from finagent.domain.errors import BadInput, Transient, Unavailable
from finagent.domain.jobs import JOB_TYPES, JobStatus
from finagent.telemetry.redaction import without_password

GROUP = "finagent"
UNKNOWN = "unknown"
NOBODY = 0  # no job has this id: what an entry that we cannot read is about
ID_DIGITS_MAX = 18  # of a number that every store can compare with its ids
ATTEMPTS = 2  # a connection that died with an earlier server is found out by using it
_FORGOTTEN = ("NOGROUP", "UNBLOCKED")  # the second one to who waits when the streams vanish

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """`call_seconds` until an answer is given up, `wait_seconds` that a process waits for an entry at a time, `entries_max` and
    `dead_letters_max` entries that a stream keeps (about), `min_idle_seconds` until an entry that somebody took and never
    finished goes to another."""

    call_seconds: float
    wait_seconds: float
    entries_max: int
    dead_letters_max: int
    min_idle_seconds: float


class Entry(NamedTuple):
    """One announcement as it was taken: where it stands, and which job it is about."""

    service: str
    entry_id: bytes
    job_id: int


class JobStreams:
    """One process at the streams of one store, named `finagent:{NAME}:SERVICE`. Raises Transient where Redis does not answer, or
    says that it cannot; the braces keep all of them on one node of a cluster."""

    def __init__(self, url: str, name: str, consumer: str, policy: StreamPolicy) -> None:
        self.where, self.losses = without_password(url), 0  # how often the groups were found gone, the first time included
        self._prefix, self._consumer, self._policy = f"finagent:{{{name}}}:", consumer, policy
        self._closed = False
        try:
            self._redis = _client(url, policy, policy.call_seconds)
            self._patient = _client(url, policy, policy.wait_seconds + policy.call_seconds)
        except ValueError as error:
            raise BadInput(f"queue.redis.url {self.where} is refused: {error}") from error

    def stream(self, service: str) -> str:
        """The key of a service's stream."""
        return self._prefix + service

    @property
    def dead(self) -> str:
        """The key of the stream of dead letters."""
        return self._prefix + "dead"

    async def send(self, moved: Iterable[Moved], finished: Sequence[Entry]) -> None:
        """Announce what is READY, tell of what is DEAD or PARKED, and delete the entries that are finished; one round trip.

        Not idempotent: a repeated call doubles announcements, and the second entry of a job claims nothing.
        """

        async def act() -> None:
            async with self._redis.pipeline(transaction=False) as pipe:
                for each in moved:
                    self._add(pipe, each)
                self._delete(pipe, finished)
                await pipe.execute()

        await self._call(act)

    async def take(self, services: Iterable[str], count: int, *, wait: bool = False) -> list[Entry]:
        """Up to `count` new entries a service, ours from now on; with `wait` the first one is waited for."""
        streams: dict[Any, Any] = {self.stream(service): ">" for service in services}
        client, block = (self._patient, max(1, int(self._policy.wait_seconds * 1000))) if wait else (self._redis, None)

        async def act() -> Any:
            return await client.xreadgroup(GROUP, self._consumer, streams, count=count, block=block)

        found = await self._in_groups(streams, act)
        return [self._entry(key, *entry) for key, entries in found or () for entry in entries]

    async def take_over(self, services: Iterable[str], count: int) -> list[Entry]:
        """Up to `count` entries a service that somebody took long ago and never finished; who took them and is gone is
        forgotten once nothing is left with him."""
        keys = [self.stream(service) for service in services]
        idle = int(self._policy.min_idle_seconds * 1000)

        async def act() -> tuple[list[Any], list[Any]]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.xautoclaim(key, GROUP, self._consumer, idle, count=count)
                    pipe.xinfo_consumers(key, GROUP)
                answers = await pipe.execute()
                claimed, consumers = answers[::2], answers[1::2]
                gone = [(key, one["name"]) for key, all_ in zip(keys, consumers, strict=True) for one in all_ if _gone(one, idle)]
                for key, name in gone:
                    pipe.xgroup_delconsumer(key, GROUP, name)
                await pipe.execute()
            return keys, claimed

        found = await self._in_groups(keys, act)
        return [self._entry(key, *entry) for key, (_, entries, *_) in zip(*found, strict=True) for entry in entries]

    async def dead_letters(self) -> set[int]:
        """The jobs that the stream of dead letters tells of."""

        async def act() -> Any:
            return await self._redis.xrange(self.dead)

        return {self._entry(self.dead, *entry).job_id for entry in await self._call(act)}

    async def leave(self, services: Iterable[str], unfinished: Sequence[Entry]) -> None:
        """Finish what is left and be forgotten, and so are streams that nobody uses; jobs that still wait, or are announced
        meanwhile, are found in the table, and who listens makes its stream anew."""
        keys = [self.stream(service) for service in services]

        async def act() -> None:
            async with self._redis.pipeline(transaction=False) as pipe:
                self._delete(pipe, unfinished)
                await pipe.execute()
                for key in keys:
                    pipe.xgroup_delconsumer(key, GROUP, self._consumer)
                    pipe.xlen(key)
                    pipe.xinfo_consumers(key, GROUP)
                answers = await pipe.execute(raise_on_error=False)  # a group that is gone took us with it
                left = zip(keys, answers[1::3], answers[2::3], strict=True)
                unused = [key for key, length, consumers in left if length == 0 and consumers == []]
                if unused:
                    await self._redis.unlink(*unused)

        await self._call(act)

    async def close(self) -> None:
        """Close the connections; whoever still waits for an answer gets none."""
        self._closed = True
        await self._redis.aclose()
        await self._patient.aclose()

    def _add(self, pipe: Pipeline, moved: Moved) -> None:
        kind = JOB_TYPES.get(moved.type)  # a dead letter may be of another release
        service = kind.queue if kind else UNKNOWN
        fields: dict[Any, Any] = {"job": moved.job_id, "type": moved.type, "queue": service, "status": moved.status.name}
        if moved.status is JobStatus.READY:
            pipe.xadd(self.stream(service), fields, maxlen=self._policy.entries_max)
        else:
            pipe.xadd(self.dead, fields, maxlen=self._policy.dead_letters_max)

    def _delete(self, pipe: Pipeline, entries: Sequence[Entry]) -> None:
        by_stream: dict[str, list[bytes]] = {}
        for entry in entries:
            by_stream.setdefault(self.stream(entry.service), []).append(entry.entry_id)
        for key, ids in by_stream.items():
            pipe.xack(key, GROUP, *ids)
            pipe.xdel(key, *ids)

    def _entry(self, key: bytes | str, entry_id: bytes, fields: dict[bytes, bytes] | None) -> Entry:
        text = (fields or {}).get(b"job", b"")
        name = key.decode() if isinstance(key, bytes) else key
        readable = text.isdigit() and len(text) <= ID_DIGITS_MAX
        return Entry(name.removeprefix(self._prefix), entry_id, int(text) if readable else NOBODY)

    async def _in_groups(self, keys: Iterable[Any], act: Callable[[], Awaitable[T]]) -> T:
        """A call to consumer groups, which are made where they are missing: at first, and after Redis has forgotten them."""
        try:
            return await self._call(act)
        except Transient as error:
            said = str(error.__cause__)  # a pipeline puts words around it
            if not (isinstance(error.__cause__, ResponseError) and any(word in said for word in _FORGOTTEN)):
                raise
        self.losses += 1
        for key in keys:
            await self._call(partial(self._make_group, key))
        return await self._call(act)

    async def _make_group(self, key: str) -> None:
        with suppress(ResponseError):  # another process was faster; whatever else is wrong the next call says
            await self._redis.xgroup_create(key, GROUP, id="0", mkstream=True)

    async def _call(self, act: Callable[[], Awaitable[T]]) -> T:
        retry = retry_if_exception_type(LostConnection)
        try:
            return await AsyncRetrying(stop=stop_after_attempt(ATTEMPTS), retry=retry, reraise=True)(self._attempt, act)
        except (RedisError, OSError, TimeoutError) as error:
            raise Transient(f"no Redis at {self.where}: {error or 'no answer in time'}") from error

    async def _attempt(self, act: Callable[[], Awaitable[T]]) -> T:
        if self._closed:  # nothing may open a connection any more
            raise Transient(f"the connection to Redis at {self.where} is closed")
        return await act()


def server_version(url: str, call_seconds: float) -> str:
    """What answers at the address; raises Unavailable where nothing does."""
    try:
        with SynchronousRedis.from_url(url, socket_timeout=call_seconds, socket_connect_timeout=call_seconds) as client:
            client.ping()
            return str(client.info("server")["redis_version"])
    except (RedisError, OSError) as error:
        raise Unavailable(f"no Redis at {without_password(url)}: {error}") from error


def _client(url: str, policy: StreamPolicy, answer_seconds: float) -> Redis:
    return Redis.from_url(
        url,
        protocol=2,
        socket_timeout=answer_seconds,
        socket_connect_timeout=policy.call_seconds,
        retry=Retry(NoBackoff(), 0),
    )


def _gone(consumer: dict[str, Any], idle_milliseconds: int) -> bool:
    return bool(consumer["pending"] == 0 and consumer["idle"] > idle_milliseconds)
