"""`finagent models gc`: bytes that nobody needs come free, counted; a dry run touches nothing."""

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.adapters.models import packages

from finagent.adapters.models.checkpoint_files import CHECKPOINT, Checkpoint, write_checkpoint
from finagent.adapters.models.package import MODEL, write_package
from finagent.adapters.models.roles import one_writer
from finagent.adapters.models.tracking import LOCK
from finagent.adapters.run_archive import archive
from finagent.bootstrap import upgrade_store
from finagent.cli.app import run
from finagent.services.failpoints import unarmed
from finagent.settings import load_settings

LONG_AGO = 1_300_000_000


def said(folder: Path, *words: str, code: int = 0) -> Any:
    options = ["--set", f"storage.directory={folder}"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        assert run([*words, *options, "--json"]) == code, err.getvalue()
    return json.loads(out.getvalue() or "null")


def everything(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def test_old_versions_and_checkpoints_go_and_roles_and_the_best_stay(tmp_path: Path) -> None:
    agent, versions = tmp_path / "agent", tmp_path / "agent" / "models" / "versions"
    for number in range(1, 6):
        write_package(
            tmp_path / str(number), packages.logistic_package(version=str(number), metrics={"log_loss": 2.0 - number / 10})
        )
        said(agent, "models", "register", str(tmp_path / str(number)))
    said(agent, "models", "promote", "gap-logistic@1", "--reason", "first")
    said(agent, "models", "promote", "gap-logistic@2", "--reason", "second", "--against-evidence")
    for part, loss in (("1-block-1", 1.0), ("2-block-1", 0.5)):
        place = agent / "training" / "logistic-1" / part
        write_checkpoint(place, Checkpoint("one", True, ({"test_log_loss": loss},), {"weights": np.ones(100)}))
        os.utime(place / CHECKPOINT, (LONG_AGO, LONG_AGO))
    place = agent / "training" / "logistic-0" / "1-all"
    write_checkpoint(place, Checkpoint("one", True, (), {"weights": np.ones(100)}))
    os.utime(place / CHECKPOINT, (LONG_AGO, LONG_AGO))
    (agent / "training" / "logistic-0" / "rows").mkdir()
    (agent / "training" / "logistic-0" / "rows" / "inputs.npy").write_bytes(b"1" * 500)
    os.utime(agent / "training" / "logistic-0" / "rows", (LONG_AGO, LONG_AGO))
    for version in versions.iterdir():
        os.utime(version, (LONG_AGO, LONG_AGO))
    (versions / "gap-logistic@3" / MODEL).write_bytes(b"damaged")

    before = everything(agent)
    best = ("--set", "model.retention.best=1")
    dry = said(agent, "models", "gc", "--dry-run", *best)
    assert everything(agent) == before
    going = ["gap-logistic@3", "gap-logistic@4", "logistic-0/1-all", "logistic-1/1-block-1", "logistic-0/rows"]
    assert [row["name"] for row in dry["removed"]] == going
    assert {row["name"]: row["reason"] for row in dry["kept"]} == {
        "gap-logistic@1": "it is previous",
        "gap-logistic@2": "it is champion",
        "gap-logistic@5": "one of the best 1 of gap-logistic",
        "logistic-1/2-block-1": "one of the best 1 of logistic-1",
    }

    told = said(agent, "models", "gc", *best)
    after = everything(agent)
    assert told["removed"] == dry["removed"]
    assert told["bytes_freed"] == told["bytes_counted"] == sum(before.values()) - sum(after.values()) > 500
    assert not (agent / "training" / "logistic-0").exists()
    assert said(agent, "models", "gc", *best)["removed"] == []
    listed = said(agent, "models", "list")["models"]
    assert [row["version"] for row in listed] == ["gap-logistic@1", "gap-logistic@2", "gap-logistic@5"]


def test_beside_a_training_nothing_is_removed_and_a_store_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    write_package(tmp_path / "one", packages.logistic_package())
    said(tmp_path / "agent", "models", "register", str(tmp_path / "one"))
    os.utime(tmp_path / "agent" / "models" / "versions" / "gap-logistic@1", (LONG_AGO, LONG_AGO))
    (tmp_path / "agent" / "spool").mkdir()
    with one_writer(tmp_path / "agent" / "spool" / LOCK, 1.0):
        said(tmp_path / "agent", "models", "gc", code=4)
    (tmp_path / "agent" / "finagent.db").write_bytes(b"no database")
    said(tmp_path / "agent", "models", "gc", code=4)
    assert (tmp_path / "agent" / "models" / "versions" / "gap-logistic@1").is_dir()


def test_what_the_audit_of_an_older_run_names_stays(tmp_path: Path) -> None:
    """`--fresh` has put that store away, and whoever reads it there finds what it names."""
    agent = tmp_path / "agent"
    settings = load_settings(overrides=(f"storage.directory={agent}",))
    agent.mkdir()
    upgrade_store(settings, unarmed)
    for number in (1, 2, 3, 4):
        write_package(tmp_path / str(number), packages.logistic_package(version=str(number)))
        said(agent, "models", "register", str(tmp_path / str(number)))
        os.utime(agent / "models" / "versions" / f"gap-logistic@{number}", (LONG_AGO, LONG_AGO))
    for number in (1, 2, 3):
        said(agent, "models", "promote", f"gap-logistic@{number}", "--reason", "of the tests", "--against-evidence")
    archive(settings.database_path, agent / "anchor")
    assert (agent / "models").is_dir()
    told = said(agent, "models", "gc", "--set", "model.retention.champions=1", "--set", "model.retention.best=0")
    assert [row["name"] for row in told["removed"]] == ["gap-logistic@4"]
    reasons = {row["name"]: row["reason"] for row in told["kept"]}
    assert reasons["gap-logistic@1"].startswith("an audit event of")
    (agent / "runs" / "0001" / "finagent.db").write_bytes(b"no database")
    said(agent, "models", "gc", code=4)
