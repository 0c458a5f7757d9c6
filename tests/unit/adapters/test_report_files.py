"""Reports land whole or not at all."""

from pathlib import Path

import pytest

from finagent.adapters.report_files import ReportFiles
from finagent.domain.errors import Unavailable


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    """The second page stands, and no half-written file is left."""
    reports = ReportFiles(tmp_path / "reports")
    reports.write("report.html", "first")

    path = reports.write("report.html", "second")

    assert Path(path).read_text(encoding="utf-8") == "second"
    assert [one.name for one in (tmp_path / "reports").iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way of the folder is Unavailable with the path, not a traceback."""
    (tmp_path / "reports").write_text("in the way", encoding="utf-8")

    with pytest.raises(Unavailable, match=r"report\.html"):
        ReportFiles(tmp_path / "reports").write("report.html", "text")
