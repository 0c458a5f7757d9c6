"""What models and trainings take on disk, and how it is given back."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from finagent.adapters.clock import wall_now
from finagent.adapters.durable_files import folder_bytes
from finagent.adapters.models.checkpoint_files import CHECKPOINT, open_checkpoint
from finagent.adapters.models.roles import one_writer
from finagent.adapters.models.tracking import LOCK
from finagent.bootstrap.models import TRAINING_FOLDER, open_registry
from finagent.bootstrap.training import ROWS, SPOOL
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import ModelRegistry
from finagent.services.models.retention import Fate, Kept, RetentionPolicy, fates
from finagent.settings import Settings

log = structlog.get_logger(__name__)
SCORE, TRIAL_SCORES = "log_loss", ("test_log_loss", "validation_loss")  # of a package, of a checkpoint: what was not learned from
_LOCK_SECONDS = 1.0


class ModelCollector:
    """Versions of the registry, and checkpoints and rows of trainings below the storage directory."""

    def __init__(self, settings: Settings) -> None:
        chosen = settings.model.retention
        self._folder = settings.storage.directory / TRAINING_FOLDER
        self._spool = settings.storage.directory / SPOOL
        self._policy = RetentionPolicy(chosen.champions, chosen.best, chosen.days, chosen.bytes_a_day)
        self._registry = open_registry(settings)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no training runs here. Transient where one does."""
        self._spool.mkdir(parents=True, exist_ok=True)
        with one_writer(self._spool / LOCK, _LOCK_SECONDS):
            yield

    def fates(self, needed: Mapping[str, str], champions: Sequence[str]) -> tuple[Fate, ...]:
        """Of all there is; of a registry that is away nothing is removed. The arguments see services.models.retention."""
        versions: list[Kept] = []
        roles: dict[str, str] = {}
        try:
            roles = {version: f"it is {alias.value}" for alias, version in self._registry.aliases().items()}
            versions = [_version(self._registry, version) for version in self._registry.versions()]
        except Transient as away:
            log.warning("model_registry_away", reason=str(away))
        return fates([*versions, *self._checkpoints(), *self._rows()], {**needed, **roles}, champions, self._policy, wall_now())

    def remove(self, going: Sequence[Fate]) -> int:
        """The bytes that are free now, as counted before and after."""
        freed = 0
        for fate in going:
            name = fate.kept.name
            if "@" in name:
                place = self._registry.fetch(name)
                before = folder_bytes(place)
                self._registry.remove(name)
            else:
                place = self._folder / name
                before = folder_bytes(place)
                shutil.rmtree(place)
                with contextlib.suppress(OSError):  # there is more of that training
                    place.parent.rmdir()
            freed += before - folder_bytes(place)
        return freed

    def _rows(self) -> Iterator[Kept]:
        """They can be read from the market again."""
        for place in sorted(self._folder.glob(f"*/{ROWS}")):
            made = datetime.fromtimestamp(place.stat().st_mtime, UTC)
            yield Kept(f"{place.parent.name}/{ROWS}", place.parent.name, made, folder_bytes(place), None)

    def _checkpoints(self) -> Iterator[Kept]:
        for file in sorted(self._folder.glob(f"*/*/{CHECKPOINT}")):
            place = file.parent
            try:
                figures = open_checkpoint(file).figures
                last = figures[-1] if figures else {}
                score = next((last[name] for name in TRIAL_SCORES if name in last), None)
            except BadInput:
                score = None
            made = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            yield Kept(f"{place.parent.name}/{place.name}", place.parent.name, made, folder_bytes(place), score)


def _version(registry: ModelRegistry, version: str) -> Kept:
    try:
        score = registry.facts(version).metrics.get(SCORE)
    except BadInput:
        score = None
    stored = registry.stored(version)
    return Kept(version, version.split("@", 1)[0], stored.made_at, stored.bytes, score)
