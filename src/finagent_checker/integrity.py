"""I7: the files are sound, chains and seals unbroken, the store as new as its anchor; and no job is left undone."""

from pathlib import Path

from finagent_checker.chains import broken_links
from finagent_checker.finding import Invariant, Report, Violation
from finagent_checker.folder import Book, Folder
from finagent_checker.seals import broken_seals, forgotten


def check_integrity(folder: Folder, report: Report, anchor: Path) -> None:
    """SQLite's own checks of both files, the hash chains of the decision events, their seals, the anchor, and how far the replay
    came."""
    for book in (folder.agent, folder.broker):
        report.add(_file_damage(book))
    clock = folder.agent.rows("SELECT state FROM market_clock")
    report.finished = [row["state"] for row in clock] == ["FINISHED"]
    events = folder.agent.rows("SELECT * FROM decision_event ORDER BY subject_type, subject_id, number")
    report.events = len(events)
    report.add(broken_links(events))
    hashes = {row["event_id"]: str(row["hash"]) for row in events}
    report.add(broken_seals(folder.agent.rows("SELECT * FROM audit_seal ORDER BY number"), hashes))
    report.add(forgotten(anchor, folder.agent, hashes))


def check_jobs(agent: Book, report: Report) -> None:
    """At the end nothing is left undone. What waits for a time after the last instant is not due; the dead are counted."""
    rows = agent.rows("SELECT id, type, status, run_at, last_error FROM job_queue WHERE status != 'DONE' ORDER BY id")
    report.dead_jobs = sum(row["status"] == "DEAD" for row in rows)
    if not report.finished:
        return
    (clock,) = agent.rows("SELECT at FROM market_clock")
    report.add(
        Violation(Invariant.JOBS, f"{row['type']} job {row['id']}", f"left {row['status']}: {row['last_error']}")
        for row in rows
        if row["status"] in ("READY", "RUNNING", "PARKED") or (row["status"] == "SCHEDULED" and row["run_at"] <= clock["at"])
    )


def _file_damage(book: Book) -> list[Violation]:
    said = [row["integrity_check"] for row in book.rows("PRAGMA integrity_check")]
    found = [Violation(Invariant.INTEGRITY, book.path.name, line) for line in said if line != "ok"]
    for row in book.rows("PRAGMA foreign_key_check"):
        message = f"row {row['rowid']} of {row['table']} points to a row of {row['parent']} that is not there"
        found.append(Violation(Invariant.INTEGRITY, book.path.name, message))
    return found
