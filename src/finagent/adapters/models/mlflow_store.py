"""MLflow, asked through its client alone: a file of SQLite with a folder of artifacts, or a tracking server.

Nothing here loads a model by MLflow: what it stores is bytes, and only `package` opens them.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finagent.domain.errors import BadInput, InvariantViolated, Transient, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "BAD_REQUEST"}
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class Missing(BadInput):
    """What was asked for is not in the store."""


class MlflowStore:
    """In `folder`, or at `url`. MLflow is imported when it is first asked, since that takes seconds."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder, self.url = folder.absolute(), url
        self._client: MlflowClient | None = None

    @property
    def name(self) -> str:
        return self.url or str(self.folder / DATABASE)

    def there(self) -> bool:
        """Whether it may be asked; a file is not made by asking."""
        return self.url is not None or (self.folder / DATABASE).is_file()

    @contextmanager
    def asking(self) -> "Iterator[MlflowClient]":
        """Its client. What MLflow raises within is Missing, BadInput, or Transient where it does not answer."""
        client = self._opened()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield client
        except MlflowException as error:
            if error.error_code == _MISSING:
                raise Missing(f"{self.name}: {error.message}") from error
            if error.error_code in _REFUSALS:
                raise BadInput(f"{self.name} refuses: {error.message}") from error
            raise Transient(f"{self.name} does not answer: {error.message}") from error
        except (RequestException, SQLAlchemyError, OSError) as error:
            raise Transient(f"{self.name} does not answer: {error}") from error

    def experiment(self, client: "MlflowClient", name: str) -> str:
        """Its id; it is made where it is not there. Artifacts lie at an absolute place, or MLflow would put them where a command
        happens to be run."""
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None if self.url else (self.folder / ARTIFACTS).as_uri()
        return str(client.create_experiment(name, artifact_location=place))

    def pages(self, search: Any, **asked: Any) -> Iterator[Any]:
        """All that a search finds."""
        token: str | None = None
        while True:
            page = search(**asked, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _opened(self) -> "MlflowClient":
        if self._client is None:
            try:
                from mlflow import MlflowClient
                from mlflow.telemetry.utils import is_telemetry_disabled
            except ImportError as error:
                raise Unavailable('MLflow is not installed: pip install "finagent[models]"') from error
            if not is_telemetry_disabled():
                raise InvariantViolated("MLflow would report to its makers: settings.quiet_mlflow comes before its first import")
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")  # MLflow's own affair
            logging.getLogger("alembic").setLevel(logging.WARNING)
            if self.url is None:
                self.folder.mkdir(parents=True, exist_ok=True)
            address = self.url or f"sqlite:///{self.folder / DATABASE}"
            self._client = MlflowClient(address, address)
        return self._client
