"""One crash image: what a power cut at one instant may leave, opened by the agent's own start and judged."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from finagent.domain.chance import uniform
from finagent.drill.acknowledged import Promises
from finagent.drill.disk import Damage, Disk
from finagent.drill.recording import Event, Name, Noted, Resize, Sync, Write
from finagent_checker.check import check_folder

DATABASE = "finagent.db"
LOG = f"{DATABASE}-wal"
BROKER_PREFIX = "broker-"
DAMAGE = "I7"  # the checker's rule for the file and its chains
UNNAMED_SHARE = 0.1  # of the images
FRAME_HEADER_BYTES = 24  # of each page in SQLite's log; the log's own header has 32


@dataclass(frozen=True, slots=True, order=True)
class CrashImage:
    """One image to be made: the power fails right after event `instant`, when `lines` had been noted."""

    instant: int
    number: int
    damage: Damage = field(compare=False)
    lines: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image on the disk: whether a commit or a checkpoint was under way, and how often each kind of damage was dealt."""

    image: CrashImage
    in_commit: bool
    in_checkpoint: bool
    dealt: Counter[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an image after the agent started on it: acknowledged effects that are lost, damage, other rules."""

    lost: list[str]
    corrupt: list[str]
    violations: list[dict[str, str]]


@dataclass(slots=True)
class CrashImages:
    """All that can be made of one recording. The broker is another system: its files are found whole, as of the instant."""

    events: Sequence[Event]
    instants: list[int] = field(init=False)  # numbers of the events after which the agent's power can fail
    unnamed: list[int] = field(init=False)  # those of them at which no sync covers the names of all files: few, and most delicate
    _lines: list[int] = field(init=False)  # noted up to each event

    def __post_init__(self) -> None:
        agents = [number for number, event in enumerate(self.events) if not _is_brokers(event)]
        begin = next(number for number in agents if isinstance(self.events[number], Name))
        self.instants = [number for number in agents if number >= begin]
        self.unnamed, unsure = [], False
        for number in self.instants:
            event = self.events[number]
            unsure = isinstance(event, Name) or (unsure and not (isinstance(event, Sync) and event.file == ""))
            if unsure:
                self.unnamed.append(number)
        self._lines = list(accumulate(isinstance(event, Noted) for event in self.events))

    def survey(self) -> dict[str, Any]:
        """What the recording holds. Commits are told by the frame that ends each of them in SQLite's log; one is unsynced when
        the log is written on before a sync."""
        commits = unsynced = 0
        ends = waits = False  # the frame at hand ends a commit; a commit waits for its sync
        for event in self.events:
            if isinstance(event, Sync) and event.file == LOG:
                waits = False
            elif isinstance(event, Write) and event.file == LOG:
                unsynced += waits
                if len(event.data) == FRAME_HEADER_BYTES:
                    ends, waits = event.data[4:8] != bytes(4), False
                elif event.offset:
                    commits += ends
                    ends, waits = False, ends
        return {
            "synchronous": "NORMAL" if unsynced else "FULL",
            "acknowledgements": Promises([event.line for event in self.events if isinstance(event, Noted)]).told(self._lines[-1]),
            "commits": commits,
            "commits_unsynced": unsynced,
            "checkpoints": sum(isinstance(event, Sync) and event.file == DATABASE for event in self.events),
            "writes": sum(isinstance(event, Write) for event in self.events),
            "instants": len(self.instants),
        }

    def deal(self, seed: int, number: int) -> CrashImage:
        """Image `number` of the seed."""
        instants = self.unnamed if uniform(seed, "power_names", number) < UNNAMED_SHARE else self.instants
        instant = instants[int(uniform(seed, "power_instant", number) * len(instants))]
        damage = tuple(Damage)[int(uniform(seed, "power_damage", number) * len(Damage))]
        return CrashImage(instant, number, damage, self._lines[instant])

    def make(self, seed: int, images: Iterable[CrashImage], place: Callable[[CrashImage], Path]) -> Iterator[MadeImage]:
        """Write the files of each image into the folder that is its place. In order of instants: one disk serves for all."""
        disk, brokers, done = Disk(), Disk(), 0
        for image in sorted(images):
            for number in range(done, image.instant + 1):
                event = self.events[number]
                (brokers if _is_brokers(event) else disk).apply(number, event)
            done = image.instant + 1
            found, dealt = disk.cut(image.damage, partial(uniform, seed, "power_cut", image.number))
            for name, contents in (found | brokers.now()).items():
                path = place(image) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents)
            yield MadeImage(image, LOG in disk.unsure, DATABASE in disk.unsure, dealt)


async def judge(folder: Path, promises: Promises, lines: int, start: Callable[[], AbstractAsyncContextManager[Any]]) -> Verdict:
    """Open the image as any start does, close it again, and look for what was promised.

    What the checker says of the file itself (I7) is damage; so is a start that fails.
    """
    try:
        async with start():
            pass
    except Exception as error:  # noqa: BLE001 - whatever keeps the agent from starting is a finding about the image
        return Verdict([], [f"the start failed: {type(error).__name__}: {error}"], [])
    found = [violation.as_json() for violation in check_folder(folder).violations]
    damage = [f"{each['subject']}: {each['message']}" for each in found if each["invariant"] == DAMAGE]
    others = [each for each in found if each["invariant"] != DAMAGE]
    return Verdict(promises.lost(folder / DATABASE, lines), damage, others)


def _is_brokers(event: Event) -> bool:
    match event:
        case Write(file=name) | Resize(file=name) | Sync(file=name):
            return name.startswith(BROKER_PREFIX)
        case Name(old=old, new=new):
            return (old or new or "").startswith(BROKER_PREFIX)
    return False
