"""What served last is kept, one at a time, and never half of it."""

import os
from pathlib import Path

import pytest
from tests.unit.adapters.models import packages

from finagent.adapters.models.package import MODEL
from finagent.adapters.models.warm_copy import SERVED, WarmCopy
from finagent.domain.errors import BadInput, Transient

ONE, TWO = packages.logistic_package(), packages.logistic_package(version="2")


def test_the_last_one_is_kept_and_no_other(tmp_path: Path) -> None:
    warm = WarmCopy(tmp_path / "warm")
    assert warm.read() is None
    for package in (ONE, ONE, TWO, ONE):
        warm.keep(package)
        assert warm.read() == package
        assert sorted(os.listdir(tmp_path / "warm")) == sorted([package.digest[:16], SERVED])


def test_a_kill_before_the_last_step_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = WarmCopy(tmp_path)
    warm.keep(ONE)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", end)
        with pytest.raises(KeyboardInterrupt):
            warm.keep(TWO)
    assert warm.read() == ONE


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    warm = WarmCopy(tmp_path)
    warm.keep(ONE)
    (tmp_path / ONE.digest[:16] / MODEL).write_bytes(b"")
    with pytest.raises(BadInput, match="is refused"):
        warm.read()


def test_a_copy_of_another_name_is_refused(tmp_path: Path) -> None:
    warm = WarmCopy(tmp_path)
    warm.keep(ONE)
    (tmp_path / ONE.digest[:16]).rename(tmp_path / "other")
    (tmp_path / SERVED).write_text("other\n")
    with pytest.raises(BadInput, match="names other, and holds gap-logistic@1"):
        warm.read()


def test_a_place_that_is_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "warm").write_text("a file")
    with pytest.raises(Transient, match="cannot be written"):
        WarmCopy(tmp_path / "warm").keep(ONE)
    assert WarmCopy(tmp_path / "warm").read() is None
