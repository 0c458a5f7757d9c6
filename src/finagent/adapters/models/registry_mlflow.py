"""ModelRegistry over MLflow: a package is the artifact of a run, a role is an alias of MLflow's.

All versions belong to one registered model, so that a role is one version's; the name that we give a version is a tag of it.
MLflow moves one alias at a time. Where champion and previous move together, one tag of the registered model says so first: it is
the moment of the promotion. Whoever reads it reads the roles as they will be, and the next writer carries out what a killed one
left. Writers of one machine wait for each other; MLflow compares nothing before it sets, so writers of different machines at one
server are not kept apart: the last promotion holds.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from finagent.adapters.durable_files import folder_bytes, temporary_name
from finagent.adapters.models.mlflow_store import ARTIFACTS, MlflowStore
from finagent.adapters.models.package import MANIFEST, MODEL, MODEL_BYTES_MAX, ModelPackage, open_package, write_package
from finagent.adapters.models.roles import VERSION_FORM, former, known_form, one_writer, promoted, require_no_role, require_single
from finagent.domain.errors import BadInput, Transient
from finagent.domain.ports.model_registry import Alias, ModelVersion, StoredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_NAME, EXPERIMENT, PACKAGE = "finagent", "finagent packages", "package"
VERSION_TAG, DIGEST_TAG = "finagent.version", "finagent.digest"
MOVE_TAG, REMOVED_TAG = "finagent.move", "finagent.removed"
LOCK, FETCHED = ".mlflow-registry.lock", "fetched-models"
_LOOKS_MAX = 20


class RegistryMlflow:
    """`admit` raises BadInput for a package that could not serve here: it is asked before one is registered or promoted. Whoever
    writes waits up to `lock_seconds` for another process of this machine that does; readers wait for nobody."""

    def __init__(self, store: MlflowStore, admit: Callable[[ModelPackage], object], lock_seconds: float = 10.0) -> None:
        self._store, self._admit, self._lock_seconds = store, admit, lock_seconds

    def versions(self) -> tuple[str, ...]:
        with self._reading() as client:
            return tuple(sorted(self._held(client)))

    def facts(self, version: str) -> ModelVersion:
        with self._reading() as client:
            return self._open(client, version).facts

    def aliases(self) -> dict[Alias, str]:
        with self._reading() as client:
            return self._named(client, self._settled(client))

    def register(self, package: Path) -> ModelVersion:
        found = open_package(package)
        self._admit(found)
        with self._writing(create=True) as client:
            if found.version in self._held(client):
                self._require_same(client, found)
                return found.facts
            run = client.create_run(self._store.experiment(client, EXPERIMENT), run_name=found.version)
            self._put(client, run.info, found)
            client.set_terminated(run.info.run_id)
            tags = {VERSION_TAG: found.version, DIGEST_TAG: found.digest}
            made = client.create_model_version(
                MODEL_NAME, f"{run.info.artifact_uri}/{PACKAGE}", run.info.run_id, tags=tags, await_creation_for=0
            )
            if self._held(client)[found.version].version != made.version:  # another machine was first
                client.delete_model_version(MODEL_NAME, str(made.version))
                self._require_same(client, found)
        return found.facts

    def point(self, alias: Alias, version: str) -> None:
        require_single(alias)
        with self._writing() as client:
            self._open(client, version)
            self._move(client, {alias: version})

    def promote(self, version: str) -> str | None:
        with self._writing() as client:
            self._admit(self._open(client, version))
            aliases = self._named(client, self._settled(client))
            self._move(client, promoted(aliases, version))
        return aliases.get(Alias.CHAMPION)

    def rollback(self) -> str:
        with self._writing() as client:
            before, back = former(self._named(client, self._settled(client)))
            self._admit(self._open(client, back))
            self._move(client, {Alias.CHAMPION: back})
        return before

    def fetch(self, version: str) -> Path:
        with self._reading() as client:
            return self._place(client, self._entry(client, version))

    def stored(self, version: str) -> StoredVersion:
        with self._reading() as client:
            entry = self._entry(client, version)
            made_at = datetime.fromtimestamp(entry.creation_timestamp / 1000.0, UTC)
            return StoredVersion(made_at, folder_bytes(self._place(client, entry)))

    def remove(self, version: str) -> None:
        with self._writing() as client:
            entry = self._entry(client, version)
            require_no_role(self._named(client, self._settled(client)), version)
            client.set_model_version_tag(MODEL_NAME, str(entry.version), REMOVED_TAG, version)
            for each in self._entries(client):
                if REMOVED_TAG in each.tags:
                    self._remove(client, each)

    def _remove(self, client: "MlflowClient", entry: Any) -> None:
        """Bytes first: without its entry nobody would find them. MLflow itself keeps them."""
        uri = client.get_run(entry.run_id).info.artifact_uri
        if self._store.url is None:
            place = self._local(uri)
            shutil.rmtree(place, ignore_errors=True)
        else:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            artifacts: Any = get_artifact_repository(uri, tracking_uri=self._store.url)
            artifacts.delete_artifacts(PACKAGE)
            place = self._copy(entry)
            shutil.rmtree(place, ignore_errors=True)
        if folder_bytes(place) or (self._store.url is not None and client.list_artifacts(entry.run_id, PACKAGE)):
            raise Transient(f"the bytes of {entry.tags[VERSION_TAG]} in {uri} are still there")
        client.delete_model_version(MODEL_NAME, str(entry.version))
        client.delete_run(entry.run_id)

    def _require_same(self, client: "MlflowClient", found: ModelPackage) -> None:
        if self._open(client, found.version).digest != found.digest:
            raise BadInput(f"{found.version} is registered with other content: a version never changes, name a new one")

    def _entry(self, client: "MlflowClient", version: str) -> Any:
        found = self._held(client).get(known_form(version))
        if found is None:
            raise BadInput(f"{version} is not registered in {self._store.name}: `finagent models list` shows what is")
        return found

    def _place(self, client: "MlflowClient", entry: Any) -> Path:
        if self._store.url is None:
            return self._local(client.get_run(entry.run_id).info.artifact_uri)
        return self._downloaded(client, entry)

    def _open(self, client: "MlflowClient", version: str) -> ModelPackage:
        entry = self._entry(client, version)
        package = open_package(self._place(client, entry))
        if package.version != version:
            raise BadInput(f"{version} in {self._store.name} says that it is {package.version}: register it under its own name")
        if package.digest != entry.tags.get(DIGEST_TAG):
            raise BadInput(f"{version} in {self._store.name} is damaged or another one: its digest is not what was registered")
        return package

    def _held(self, client: "MlflowClient") -> dict[str, Any]:
        """MLflow's entry of each version. Of two that claim one name the older holds it; those without a name are not ours."""
        held: dict[str, Any] = {}
        for entry in sorted(self._entries(client), key=lambda entry: int(entry.version)):
            version = entry.tags.get(VERSION_TAG, "")
            if VERSION_FORM.fullmatch(version) and REMOVED_TAG not in entry.tags:
                held.setdefault(version, entry)
        return held

    def _entries(self, client: "MlflowClient") -> Iterator[Any]:
        return self._store.pages(client.search_model_versions, filter_string=f"name='{MODEL_NAME}'")

    def _settled(self, client: "MlflowClient") -> dict[str, str]:
        """Aliases and MLflow's numbers, as two looks in a row show them: one look is several reads."""
        seen: dict[str, str] | None = None
        for _ in range(_LOOKS_MAX):
            model = client.get_registered_model(MODEL_NAME)
            roles = {name: str(number) for name, number in (dict(model.aliases) | self._moving(model)).items()}
            if roles == seen:
                return roles
            seen = roles
        raise Transient(f"the roles in {self._store.name} do not come to rest: somebody keeps moving them")

    def _named(self, client: "MlflowClient", roles: dict[str, str]) -> dict[Alias, str]:
        """BadInput for a role of something that was not registered by us: nobody knows what it would be."""
        versions = {str(entry.version): version for version, entry in self._held(client).items()}
        known = {alias.value: alias for alias in Alias}
        strange = sorted(name for name, number in roles.items() if name in known and number not in versions)
        if strange:
            raise BadInput(
                f"{', '.join(strange)} in {self._store.name} is a version of MLflow's that finagent did not register; "
                "`finagent models promote VERSION --reason R` names another one"
            )
        return {known[name]: versions[number] for name, number in roles.items() if name in known}

    def _move(self, client: "MlflowClient", moved: dict[Alias, str]) -> None:
        held = self._held(client)
        numbers = {alias.value: str(held[version].version) for alias, version in moved.items()}
        if len(numbers) > 1:
            client.set_registered_model_tag(MODEL_NAME, MOVE_TAG, json.dumps(numbers, sort_keys=True))
            self._carry_out(client)
        for name, number in numbers.items() if len(numbers) == 1 else ():
            client.set_registered_model_alias(MODEL_NAME, name, number)

    def _carry_out(self, client: "MlflowClient") -> None:
        """The move that the tag tells of; again, it changes nothing."""
        moving = self._moving(client.get_registered_model(MODEL_NAME))
        if moving:
            for name, number in moving.items():
                client.set_registered_model_alias(MODEL_NAME, name, number)
            client.delete_registered_model_tag(MODEL_NAME, MOVE_TAG)

    def _moving(self, model: Any) -> dict[str, str]:
        """MLflow's numbers by the roles that are on their way to them."""
        try:
            told = json.loads(model.tags.get(MOVE_TAG, "{}"))
            return {Alias(name).value: str(int(number)) for name, number in told.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInput(
                f"the tag {MOVE_TAG} of {MODEL_NAME} in {self._store.name} is damaged: {error}; delete it there"
            ) from error

    def _put(self, client: "MlflowClient", run: Any, package: ModelPackage) -> None:
        if self._store.url is None:
            write_package(self._local(run.artifact_uri), package)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_package(Path(folder) / PACKAGE, package)
            client.log_artifacts(run.run_id, str(Path(folder) / PACKAGE), PACKAGE)

    def _local(self, uri: str) -> Path:
        """Folder of a run's package. BadInput for one that lies elsewhere than our artifacts do."""
        parts = urlsplit(uri)
        place = Path(unquote(parts.path)) / PACKAGE
        inside = (self._store.folder / ARTIFACTS).resolve()
        if parts.scheme not in ("file", "") or not place.resolve().is_relative_to(inside):
            raise BadInput(f"an artifact is said to lie in {uri}, which is not below {inside}: it is not read")
        return place

    def _downloaded(self, client: "MlflowClient", entry: Any) -> Path:
        """A copy, made once; a server may send anything, and `open_package` says what it is."""
        place = self._copy(entry)
        with suppress(BadInput):
            if open_package(place).digest == entry.tags.get(DIGEST_TAG):
                return place
        shutil.rmtree(place, ignore_errors=True)
        files, ours = client.list_artifacts(entry.run_id, PACKAGE), [f"{PACKAGE}/{name}" for name in (MODEL, MANIFEST)]
        for file in files:
            if file.is_dir or file.path not in ours or (file.file_size or 0) > MODEL_BYTES_MAX:
                told = f"{entry.tags[VERSION_TAG]} in {self._store.name}"
                raise BadInput(f"{told} is refused: {file.path} does not belong to it, or is too large; nothing was fetched")
        making = temporary_name(place)
        making.mkdir(parents=True)
        try:
            for file in files:
                came = client.download_artifacts(entry.run_id, file.path, str(making))
                (making / FETCHED).mkdir(exist_ok=True)
                os.replace(came, making / FETCHED / Path(file.path).name)
            if files:
                os.rename(making / FETCHED, place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return place

    def _copy(self, entry: Any) -> Path:
        """Where its copy lies: no tag, which a server may set to anything, is part of a path unseen."""
        told = f"{entry.tags[VERSION_TAG]} {entry.tags.get(DIGEST_TAG, '')}"
        return self._store.folder / FETCHED / f"{entry.tags[VERSION_TAG]}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    @contextmanager
    def _reading(self) -> "Iterator[MlflowClient]":
        """A store that is away must not pass for one without models, nor be made by looking for it."""
        if not self._store.there():
            raise self._nothing()
        with self._store.asking() as client:
            if not self._there(client):
                raise self._nothing()
            yield client

    @contextmanager
    def _writing(self, *, create: bool = False) -> "Iterator[MlflowClient]":
        if not create and not self._store.there():
            raise self._nothing()
        self._store.folder.mkdir(parents=True, exist_ok=True)
        with one_writer(self._store.folder / LOCK, self._lock_seconds), self._store.asking() as client:
            if not self._there(client):
                if not create:
                    raise self._nothing()
                client.create_registered_model(MODEL_NAME)
            self._carry_out(client)
            yield client

    def _there(self, client: "MlflowClient") -> bool:
        """A store that has only trainings in it is no registry."""
        return bool(client.search_registered_models(max_results=1, filter_string=f"name='{MODEL_NAME}'"))

    def _nothing(self) -> Transient:
        return Transient(f"there is no model registry in {self._store.name}: `finagent models register` makes one")
