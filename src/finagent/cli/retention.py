"""`finagent models gc`: gives back what nobody needs of versions and trainings."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force

if TYPE_CHECKING:
    from finagent.settings import Settings

WRONG = 3


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Remove versions and checkpoints past their time (`model.retention`); never what has a role, scored, or is named by the
    audit of this folder's stores. Exits 3 where fewer bytes came free than were counted."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json

    document = _collected(settings, dry_run=dry_run)
    if as_json:
        print_json(document)
    else:
        for row in document["kept"] + document["removed"]:
            gone = "would go" if dry_run else "gone"
            typer.echo(f"{'stays' if row['stays'] else gone:<9} {row['name']:<50} {row['bytes']:>12} bytes  {row['reason']}")
        typer.echo(f"{document['bytes_counted']} bytes counted, {document['bytes_freed']} freed")
    if not dry_run and document["bytes_freed"] < document["bytes_counted"]:
        raise typer.Exit(WRONG)


def _collected(settings: "Settings", *, dry_run: bool) -> dict[str, Any]:
    from finagent.bootstrap.retention import ModelCollector

    collector = ModelCollector(settings)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(collector.alone())
        found = collector.fates(*_story(settings))
        going = [fate for fate in found if not fate.stays]
        freed = 0 if dry_run else collector.remove(going)
    told = [
        {
            "name": fate.kept.name,
            "stays": fate.stays,
            "reason": fate.reason,
            "bytes": fate.kept.bytes,
            "made_at": fate.kept.made_at,
        }
        for fate in found
    ]
    return {
        "dry_run": dry_run,
        "kept": [row for row in told if row["stays"]],
        "removed": [row for row in told if not row["stays"]],
        "bytes_counted": sum(fate.kept.bytes for fate in going),
        "bytes_freed": freed,
    }


def _story(settings: "Settings") -> tuple[dict[str, str], tuple[str, ...]]:
    """What decisions and audit need: of the store in force and of those that `--fresh` has put away. One that cannot be read is
    an error, one that was never made needs nothing."""
    from finagent.domain.decision import DecisionEvent, SubjectType
    from finagent.domain.prediction import Prediction
    from finagent.services.models.retention import needed_by_story
    from finagent.store_access import reading

    put_away = [{"directory": place, "url": None} for place in sorted(settings.storage.directory.glob("runs/*"))]
    stores = [settings.model_copy(update={"storage": settings.storage.model_copy(update=each)}) for each in put_away]
    predictions: dict[str, Prediction] = {}
    events: list[DecisionEvent] = []
    for each in (*stores, settings):
        if each.storage.url is None and not each.database_path.is_file():
            continue
        with reading(each) as store:
            predictions |= {one.model_version: one for one in store.reads.find(Prediction)}
            events += store.reads.find(DecisionEvent, subject_type=SubjectType.MODEL)
    return needed_by_story(predictions.values(), events)
