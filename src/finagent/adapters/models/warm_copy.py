"""The package that served last, in the agent's own folder: a start does not depend on a registry elsewhere."""

import os
import shutil
from pathlib import Path

from finagent.adapters.durable_files import replace_file
from finagent.adapters.models.package import ModelPackage, open_package, write_package
from finagent.domain.errors import BadInput, Transient

SERVED = "served"


class WarmCopy:
    """One package, and a file that names the folder it is in; a kill leaves the old one or the new one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, package: ModelPackage) -> None:
        """In place of what was kept. Raises Transient where it cannot be written."""
        name = package.digest[:16]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / name).exists():
                write_package(self._folder / name, package)
            replace_file(self._folder / SERVED, f"{name}\n".encode())
            for other in os.listdir(self._folder):
                if other not in (name, SERVED):
                    shutil.rmtree(self._folder / other, ignore_errors=True)
        except OSError as error:
            raise Transient(f"{self._folder} cannot be written: {error.strerror or error}") from error

    def read(self) -> ModelPackage | None:
        """None where nothing was kept. BadInput for one that is damaged, Transient where it cannot be read."""
        try:
            name = (self._folder / SERVED).read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise Transient(f"{self._folder / SERVED} cannot be read: {error}") from error
        package = open_package(self._folder / Path(name).name)
        if package.digest[:16] != name:
            raise BadInput(f"{self._folder} names {name}, and holds {package.version} ({package.digest[:16]}): remove it")
        return package
