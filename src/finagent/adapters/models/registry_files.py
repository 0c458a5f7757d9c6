"""ModelRegistry in a folder: a package a version, and one file that says who has which role."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from finagent.adapters.durable_files import folder_bytes, replace_file, sync_folder, temporary_name
from finagent.adapters.models.package import ModelPackage, open_package, write_package
from finagent.adapters.models.roles import VERSION_FORM, former, known_form, one_writer, promoted, require_no_role, require_single
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias, ModelVersion, StoredVersion

ALIASES, LOCK, VERSIONS = "aliases.json", ".lock", "versions"


class RegistryFiles:
    """`admit` raises BadInput for a package that could not serve here: it is asked before one is registered or promoted. Whoever
    writes waits up to `lock_seconds` for another process that does; readers wait for nobody."""

    def __init__(self, folder: Path, admit: Callable[[ModelPackage], object], lock_seconds: float = 10.0) -> None:
        self._folder, self._admit, self._lock_seconds = folder, admit, lock_seconds

    def versions(self) -> tuple[str, ...]:
        self._require_there()
        try:
            return tuple(sorted(name for name in os.listdir(self._folder / VERSIONS) if VERSION_FORM.fullmatch(name)))
        except OSError as error:
            raise self._away(error) from error

    def facts(self, version: str) -> ModelVersion:
        return self._open(version).facts

    def aliases(self) -> dict[Alias, str]:
        self._require_there()
        try:
            text = (self._folder / ALIASES).read_bytes()
        except OSError as error:
            raise self._away(error) from error
        try:
            return {Alias(name): known_form(version) for name, version in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise BadInput(
                f"{self._folder / ALIASES} is damaged: {error}; write {{}} into it and promote the champion again"
            ) from error

    def register(self, package: Path) -> ModelVersion:
        found = open_package(package)
        self._admit(found)
        with self._writing(create=True):
            place = self._folder / VERSIONS / found.version
            if place.exists():
                if self._open(found.version).digest != found.digest:
                    raise BadInput(f"{found.version} is registered with other content: a version never changes, name a new one")
            else:
                write_package(place, found)
        return found.facts

    def point(self, alias: Alias, version: str) -> None:
        require_single(alias)
        with self._writing():
            self._open(version)
            self._write_aliases(self.aliases() | {alias: version})

    def promote(self, version: str) -> str | None:
        with self._writing():
            self._admit(self._open(version))
            aliases = self.aliases()
            if moved := promoted(aliases, version):
                self._write_aliases(aliases | moved)
        return aliases.get(Alias.CHAMPION)

    def rollback(self) -> str:
        with self._writing():
            aliases = self.aliases()
            before, back = former(aliases)
            self._admit(self._open(back))
            self._write_aliases(aliases | {Alias.CHAMPION: back})
        return before

    def fetch(self, version: str) -> Path:
        self._require_there()
        place = self._folder / VERSIONS / known_form(version)
        if not place.is_dir():
            raise BadInput(f"{version} is not registered in {self._folder}: `finagent models list` shows what is")
        return place

    def stored(self, version: str) -> StoredVersion:
        place = self.fetch(version)
        try:
            return StoredVersion(datetime.fromtimestamp(place.stat().st_mtime, UTC), folder_bytes(place))
        except OSError as error:
            raise self._away(error) from error

    def remove(self, version: str) -> None:
        with self._writing():
            place = self.fetch(version)
            require_no_role(self.aliases(), version)
            place.rename(temporary_name(place))
            sync_folder(place.parent)
            self._clear_away()

    def _open(self, version: str) -> ModelPackage:
        package = open_package(self.fetch(version))
        if package.version != version:
            raise BadInput(f"{version} in {self._folder} says that it is {package.version}: register it again under its own name")
        return package

    def _require_there(self) -> None:
        """A mount that is away leaves an empty folder behind, and an empty folder must not pass for a registry without models."""
        if not (self._folder / ALIASES).is_file():
            raise Transient(f"there is no model registry in {self._folder}: `finagent models register` makes one")

    def _away(self, error: OSError) -> Transient:
        return Transient(f"the model registry {self._folder} cannot be read: {error.strerror or error}")

    def _write_aliases(self, aliases: Mapping[Alias, str]) -> None:
        text = json.dumps({alias.value: version for alias, version in aliases.items()}, indent=1, sort_keys=True)
        replace_file(self._folder / ALIASES, text.encode() + b"\n")

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[None]:
        """One process at a time; what a killed one left half done is cleared away first."""
        if not create:
            self._require_there()
        try:
            (self._folder / VERSIONS).mkdir(parents=True, exist_ok=True)
            with one_writer(self._folder / LOCK, self._lock_seconds):
                self._clear_away()
                if create and not (self._folder / ALIASES).is_file():
                    self._write_aliases({})
                    sync_folder(self._folder.parent)
                yield
        except OSError as error:
            raise Transient(f"the model registry {self._folder} cannot be written: {error.strerror or error}") from error

    def _clear_away(self) -> None:
        for folder in (self._folder, self._folder / VERSIONS):
            for name in os.listdir(folder):
                if name.startswith(".") and name != LOCK:
                    path = folder / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
