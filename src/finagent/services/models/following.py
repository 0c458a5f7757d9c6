"""A running agent serves what the registry names: it follows the aliases, keeps handles warm, and stops a canary that is ill."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from finagent.domain.decision import DecisionEvent, SubjectType
from finagent.domain.errors import BadInput, FinagentError, Transient
from finagent.domain.ports.model_registry import Alias, ModelRegistry
from finagent.quant.evaluation.promotion import Verdict
from finagent.services.models.canary import CallWindow, CanaryPolicy, objection
from finagent.services.models.champion_guard import ChampionGuard
from finagent.services.models.history import demotion
from finagent.services.models.serving import Call, Handle, ModelServer, Refusal, Serving

SERVING, CANARY_STOPPED = "serving", "canary_stopped"
R = TypeVar("R")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FollowPolicy:
    """`poll_seconds` of wall time between two looks at the registry; `warm_max` handles stay in memory, so that going back loads
    nothing; the canary serves `canary_share` of all subjects."""

    poll_seconds: float
    warm_max: int
    canary_share: float
    canary: CanaryPolicy


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where models come from. `load` proves one and makes it ready (BadInput: it cannot serve; Transient: not now); `keep` leaves
    a copy of the champion for a start without the registry. All may block, and are called by way of `in_thread`."""

    registry: ModelRegistry
    load: Callable[[str], Handle]
    keep: Callable[[str], None]
    in_thread: Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ModelJournal:
    """The story of what served: `record` commits an event, `stopped` are the canaries that were stopped in it, `demoted` the
    champions that may not be it before a person says so."""

    record: Callable[[DecisionEvent], Awaitable[object]]
    stopped: Callable[[], frozenset[str]]
    demoted: Callable[[], frozenset[str]]
    now: Callable[[], datetime]


class ModelFollower:
    """On wall time alone: a replay serves to its end what it began with.

    A version that cannot serve is refused by name, and who served goes on. A canary that was stopped never serves again under
    that version. The swap is one assignment; loading and proving happen before it, off the loop.

    With a `guard` a champion that breaches it goes: that is recorded first, then the registry goes back to the previous one,
    then that one serves; whoever dies in between does the rest at the next look. Where there is none to go back to, or it
    cannot serve, nobody scores, and so nobody trades.
    """

    def __init__(
        self,
        server: ModelServer,
        source: ModelSource,
        journal: ModelJournal,
        policy: FollowPolicy,
        guard: ChampionGuard | None = None,
    ) -> None:
        self._server, self._source, self._journal, self._policy, self._guard = server, source, journal, policy, guard
        champion = server.serving.champion
        self._warm: dict[str, Handle] = {champion.version: champion} if champion else {}  # the one that served last at the end
        self._refused: set[str] = set()
        self._stopped: set[str] = set()
        self._untold: list[DecisionEvent] = []
        self._window = CallWindow("", policy.canary.predictions_min)
        self._looking, self._sign = asyncio.Lock(), asyncio.Event()
        self._trouble = self._unjudged = ""
        server.observers.append(self)

    async def run(self) -> None:
        """Look every `poll_seconds`, and at once where a canary was stopped; until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # who serves goes on serving
                log.exception("models_not_followed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.poll_seconds):
                    await self._sign.wait()
            self._sign.clear()

    async def look(self, *, anew: bool = False) -> None:
        """Serve what the registry names now; `anew`: also try what was refused before. Where the registry is away, or what it
        names cannot serve, nothing changes, but for a champion that was demoted: it scores no more."""
        async with self._looking:
            if anew:
                self._refused.clear()
            try:
                aliases = await self._source.in_thread(self._source.registry.aliases)
                aliases, benched = await self._guarded(aliases)
                before = self._server.serving
                champion = None if benched else await self._handle(aliases.get(Alias.CHAMPION)) or before.champion
                canary = await self._canary(aliases.get(Alias.CANARY))
                canary = None if canary is champion else canary
                self._trouble = ""
            except (BadInput, Transient) as error:
                if str(error) != self._trouble:
                    log.warning("model_registry_away", reason=str(error))
                self._trouble = str(error)
                serving = self._server.serving
                if serving.champion is not None and serving.champion.version in self._journal.demoted():
                    await self._serve(serving, replace(serving, champion=None))
            else:
                await self._serve(before, Serving(champion, canary, self._policy.canary_share if canary else 0.0))
            await self._tell()

    # -- an InferenceObserver ------------------------------------------------------------------------------------------------

    def model_called(self, call: Call) -> None:
        """Stops the canary at once where this call was one too many; the event follows."""
        champion, canary = self._server.serving.champion, self._server.serving.canary
        if self._guard is not None and champion is not None and call.version == champion.version:
            self._guard.heard(call)
        if canary is None or call.version != canary.version:
            return
        if self._window.version != call.version:
            self._window = CallWindow(call.version, self._policy.canary.predictions_min)
        self._window.add(call)
        reason = objection(self._window.figures(), self._policy.canary)
        if reason:
            self._server.serve(replace(self._server.serving, canary=None, canary_share=0.0))
            self._stopped.add(call.version)
            self._note(CANARY_STOPPED, version=call.version, reason=reason)
            self._sign.set()

    def score_refused(self, refusal: Refusal, rows: int) -> None: ...

    def rows_waiting(self, rows: int) -> None: ...

    # -- inside --------------------------------------------------------------------------------------------------------------

    async def _guarded(self, aliases: dict[Alias, str]) -> tuple[dict[Alias, str], bool]:
        """The roles once a champion that may not go on has been sent back, and whether nobody may score now."""
        champion, previous = aliases.get(Alias.CHAMPION), aliases.get(Alias.PREVIOUS)
        if self._guard is None or champion is None:
            return aliases, False
        demoted = self._journal.demoted()
        back = None if previous == champion or previous in demoted else previous
        if champion not in demoted:
            verdict = await self._verdict(self._guard, champion, previous if previous != champion else None)
            if verdict is None or not verdict.positive:
                return aliases, False
            event = demotion(champion, back, verdict, self._journal.now())
            log.error(event.kind, **event.body)
            await self._journal.record(event)
            self._guard.forget()
        if back is None or back in self._refused:
            return aliases, True
        try:
            await self._source.in_thread(self._source.registry.rollback)
        except BadInput as refusal:  # nobody scores rather than one that may not
            self._refuse(back, refusal)
            return aliases, True
        return await self._source.in_thread(self._source.registry.aliases), False

    async def _verdict(self, guard: ChampionGuard, champion: str, previous: str | None) -> Verdict | None:
        """None where what was decided cannot be weighed now: that is no reason not to follow the registry."""
        try:
            verdict = await guard.verdict(champion, previous)
        except (BadInput, Transient) as error:
            if str(error) != self._unjudged:
                log.warning("champion_not_judged", model=champion, reason=str(error))
            self._unjudged = str(error)
            return None
        self._unjudged = ""
        return verdict

    async def _handle(self, version: str | None) -> Handle | None:
        """None for one that cannot serve, and where nobody has the role."""
        if version is None or version in self._refused:
            return None
        if version not in self._warm:
            try:
                self._warm[version] = await self._source.in_thread(self._source.load, version)
            except BadInput as refusal:
                self._refuse(version, refusal)
                return None
        self._warm[version] = self._warm.pop(version)
        return self._warm[version]

    def _refuse(self, version: str, refusal: BadInput) -> None:
        self._refused.add(version)
        self._note("model_refused", version=version, reason=str(refusal))

    async def _canary(self, version: str | None) -> Handle | None:
        if not self._policy.canary_share or version in self._stopped | self._journal.stopped():
            return None
        return await self._handle(version)

    async def _serve(self, before: Serving, serving: Serving) -> None:
        if (serving.champion, serving.canary) == (before.champion, before.canary):
            return
        if serving.canary is not None and serving.canary.version in self._stopped:  # while the other one was loaded
            serving = replace(serving, canary=None, canary_share=0.0)
        self._server.serve(serving)
        names = {handle.version for handle in (serving.champion, serving.canary) if handle}
        for version in [each for each in self._warm if each not in names][: max(0, len(self._warm) - self._policy.warm_max)]:
            del self._warm[version]
        champion, canary = (handle and handle.version for handle in (serving.champion, serving.canary))
        self._note("models_served", champion=champion, canary=canary, canary_share=serving.canary_share)
        if champion is not None and serving.champion is not before.champion:
            try:
                await self._source.in_thread(self._source.keep, champion)
            except FinagentError as error:
                log.warning("warm_model_not_kept", reason=str(error), model=champion)

    def _note(self, kind: str, **body: object) -> None:
        log.info(kind, **body)
        self._untold.append(DecisionEvent(SubjectType.MODEL, SERVING, kind, self._journal.now(), body=body))

    async def _tell(self) -> None:
        """What happened is recorded in its order; what cannot be now is at the next look."""
        while self._untold:
            try:
                await self._journal.record(self._untold[0])
            except Transient as error:
                log.warning("models_not_recorded", reason=str(error))
                return
            self._untold.pop(0)
