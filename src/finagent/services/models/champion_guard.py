"""When a champion goes: one guard is breached, by how it answers or by what came of what it said."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from finagent.domain.errors import BadInput, Transient
from finagent.quant.evaluation.promotion import Guards, Health, Verdict, judge_demotion
from finagent.services.models.canary import CallWindow
from finagent.services.models.serving import Call

_MILLISECONDS = 1000.0
ASK_AGAIN = timedelta(minutes=10)  # where bars are away: each question asks for those of many sessions
Judged = Callable[[str, str | None], Awaitable[Health]]  # what was decided says of the champion, beside the version before it


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """How it answers is judged on about the last `calls_rows_min` rows, and not before."""

    guards: Guards
    calls_rows_min: int


class ChampionGuard:
    """What was decided is weighed once a day and champion, how it answers at every question. What cannot be weighed now is asked
    for again after ASK_AGAIN."""

    def __init__(self, policy: GuardPolicy, judged: Judged, now: Callable[[], datetime]) -> None:
        self._policy, self._judged, self._now = policy, judged, now
        self._window = CallWindow("", policy.calls_rows_min)
        self._decided: tuple[tuple[str, date], Health] | None = None
        self._silent: tuple[str, datetime] | None = None  # of that champion nothing could be told, and it is asked again then

    def heard(self, call: Call) -> None:
        """A call of the champion."""
        if call.version != self._window.version:
            self._window = CallWindow(call.version, self._policy.calls_rows_min)
        self._window.add(call)

    async def verdict(self, champion: str, previous: str | None) -> Verdict:
        """Positive: demote it. BadInput and Transient where what was decided cannot be weighed now, and how it answers is no
        reason to demote it either."""
        now, trouble = self._now(), None
        question = (champion, now.date())
        waits = self._silent is not None and self._silent[0] == champion and now < self._silent[1]
        if (self._decided is None or self._decided[0] != question) and not waits:
            try:
                self._decided = (question, await self._judged(champion, previous))
            except (BadInput, Transient) as error:
                self._decided, trouble, self._silent = None, error, (champion, now + ASK_AGAIN)
        health = self._decided[1] if self._decided is not None and self._decided[0] == question else Health()
        figures = self._window.figures() if self._window.version == champion else None
        if figures is not None:
            latency_ms = figures.p95_seconds * _MILLISECONDS
            health = replace(health, latency_p95_ms=latency_ms, failed_fraction=figures.failed_fraction)
        verdict = judge_demotion(health, self._policy.guards)
        if trouble is not None and not verdict.positive:
            raise trouble
        return verdict

    def forget(self) -> None:
        """What was known of a champion that was demoted: whoever makes it champion again gives it another chance."""
        self._window, self._decided = CallWindow("", self._policy.calls_rows_min), None
