"""Seals and anchors while an agent runs, and the refusal of a store that is not the one which the anchor remembers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import structlog

from finagent.adapters.database.anchor import Anchor, AnchorFile, Rows, head_of, objection
from finagent.adapters.database.connection import Driver
from finagent.adapters.database.seals import seal_next
from finagent.adapters.database.writer import Done, Operation
from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.effect import Effect
from finagent.domain.errors import BadInput, FinagentError, Unavailable
from finagent.domain.ports.clock import Clock
from finagent.domain.time import to_text

# The anchor is written at most once a second, so a store that was lost may have used more than it remembers. Nobody publishes
# ten million jobs or starts a thousand times between two anchors, and there are 2^63 ids.
JOB_IDS_SKIPPED, EPOCHS_SKIPPED = 10_000_000, 1_000
_RAISE = """
INSERT INTO meta (key, value) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value < excluded.value"""
_UNMARK = "DELETE FROM meta WHERE key = 'unaccepted'"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """`anchor_seconds` of wall time between two anchors at least; `seal_events` bound a seal, so that it holds up nobody."""

    anchor_seconds: float
    seal_events: int


class AuditedQueue(Protocol):
    """The one writer as the audit needs it."""

    def submit(self, effect: Effect) -> Awaitable[Any]: ...

    def maintain(self, operation: Operation) -> Awaitable[Any]: ...


class AuditKeeper:
    """Used on one event loop, from before `recover` to after the writer's end.

    `objection` is why the store is not what the anchor remembers: until a person accepts it, no new risk is taken and the anchor
    stays as it is. Its marker in the store survives a restart that would find the two alike again. `shared` is a store on a
    server, whose leaders each have an anchor where they run.
    """

    def __init__(
        self,
        file: AnchorFile,
        store: Rows,
        queue: AuditedQueue,
        *,
        clock: Clock,
        policy: AuditPolicy,
        wall_now: Callable[[], datetime],
        failpoints: Callable[[str], None],
        shared: bool,
    ) -> None:
        self._file, self._store, self._queue, self._clock, self._policy = file, store, queue, clock, policy
        self._wall_now, self._failpoints, self._shared = wall_now, failpoints, shared
        self._anchor: Anchor | None = None
        self._failure = ""  # why the last anchor could not be written; ends with the next one
        self._changed = asyncio.Event()
        self.objection = ""
        self.accepted = asyncio.Event()

    def held_back(self) -> str:
        """Why no new risk may be taken on this store now; empty when it may."""
        return self.objection or self._failure

    async def prepare(self) -> None:
        """Before `recover`: where there is an objection, mark the store, and let no id be used twice."""
        self._look()
        if self.objection:
            log.warning("anchor_objected", objection=self.objection, anchor=str(self._file.path), cure="finagent db accept")
            await self._queue.maintain(partial(_hold_back, self._anchor))

    def require_ledger(self) -> None:
        """Raises BadInput where the folder's anchor remembers another ledger than the store that several processes share: that is
        a wrong folder, not a wrong store."""
        kept, stored = self._file.read(), self._store.rows("SELECT ledger_id FROM ledger_identity")
        if kept is not None and stored and kept.ledger_id != stored[0][0]:
            raise BadInput(
                f"{self._file.path} remembers {kept.ledger_id}, the store holds {stored[0][0]}: "
                "another storage.directory, or another storage.url"
            )

    async def begin(self) -> None:
        """After `recover` and the first effect, before anything is handed out: what this process does is never without an anchor.
        Until here another process may have led, and written it."""
        if not self.objection:
            self._look()
        await self.write_anchor()

    def committed(self, _operations: int, _seconds: float) -> None:
        """Told of every commit."""
        self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the block runs: whole seals over what was committed, then the anchor, no more often than the policy says."""
        task = asyncio.create_task(self._run(), name="audit")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.seal(whole=True)
                await self.write_anchor()
            except Exception as error:  # whatever stops the audit stops new risk
                self._failure = f"the audit failed: {type(error).__name__}: {error}"
                self._changed.set()
                log.exception("audit_failed")
            await asyncio.sleep(self._policy.anchor_seconds)

    async def seal(self, *, whole: bool = False) -> None:
        """Seal what has no seal yet; `whole`: only as far as it fills seals. A store that takes no writes is sealed later."""
        try:
            while await self._queue.maintain(partial(seal_next, self._clock.now(), self._policy.seal_events, whole=whole)):
                continue
        except FinagentError as error:
            log.warning("seal_postponed", error=str(error))

    async def write_anchor(self) -> None:
        """Bring the anchor up to the committed head."""
        head = None if self.objection else head_of(self._store, to_text(self._wall_now()))
        if head is None or head.same_head(self._anchor):
            return
        try:
            await _to_its_end(asyncio.to_thread(self._file.write, head, self._failpoints))
        except Unavailable as error:
            self._failure = str(error)
            self._changed.set()
            log.warning("anchor_failed", error=str(error))
        except BadInput as error:
            self.objection = str(error)
            log.warning("anchor_objected", objection=str(error), cure="finagent db accept")
        else:
            self._anchor, self._failure = head, ""

    async def accept(self, reason: str, by: str) -> None:
        """A person takes the store as it is: recorded, anchored anew. Raises BadInput where nothing is objected to."""
        if not self.objection:
            raise BadInput("there is nothing to accept: the database is what its anchor remembers")
        remembered = asdict(self._anchor) if self._anchor else None
        body = {"objection": self.objection, "anchor": remembered, "reason": reason, "by": by}
        event = DecisionEvent(SubjectType.ACCOUNT, "account", "store_accepted", self._clock.now(), body=body)
        await self._queue.submit(Effect(events=(event,)))
        await self._queue.maintain(lambda driver: Done(None, wrote=driver.execute(_UNMARK).rowcount > 0))
        with suppress(BadInput):
            self._file.read()  # whatever it holds by now is replaced
        head = head_of(self._store, to_text(self._wall_now()))
        assert head is not None
        await _to_its_end(asyncio.to_thread(self._file.write, head, self._failpoints))
        self._anchor, self.objection, self._failure = head, "", ""
        self.accepted.set()

    def _look(self) -> None:
        try:
            self._anchor = self._file.read()
            self.objection = objection(self._anchor, self._store, shared=self._shared)
        except BadInput as error:
            self.objection = str(error)


def _hold_back(anchor: Anchor | None, driver: Driver) -> Done:
    driver.execute(_RAISE, ("unaccepted", 1))
    if anchor is not None:
        driver.execute(_RAISE, ("epoch", anchor.epoch + EPOCHS_SKIPPED))
        driver.execute(_RAISE, ("next_job_id", anchor.next_job_id + JOB_IDS_SKIPPED))
    return Done(None)


async def _to_its_end(work: Awaitable[None]) -> None:
    """Await it even when cancelled meanwhile: two writes of one file must not overlap."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
