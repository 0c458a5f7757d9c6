"""`finagent explain ID`: the story behind an id."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from finagent.cli.options import AsJson, Overrides, SettingsFile, settings_in_force
from finagent.domain.errors import BadInput, Transient, Unavailable

if TYPE_CHECKING:
    from datetime import datetime

    from rich.tree import Tree

    from finagent.domain.gap import GapCandidate
    from finagent.domain.ports.news import Article
    from finagent.services.forensics.explain import Explanation
    from finagent.settings import Settings


def explain(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A decision, order, job, run or trace; its beginning is enough.")],
    settings_file: SettingsFile = None,
    overrides: Overrides = None,
    news: Annotated[bool, typer.Option("--news", help="And what was written in the day before (Alpaca).")] = False,
    as_json: AsJson = False,
) -> None:
    """Everything that led to a decision, order, job, run or trace, and everything that followed from it, in order."""
    settings = settings_in_force(settings_file, overrides)
    from finagent.cli.output import print_json
    from finagent.domain.gap import GapCandidate
    from finagent.services.forensics.explain import explain as explain_id
    from finagent.services.reporting.canonical import as_plain
    from finagent.store_access import reading

    with reading(settings) as store:
        told = explain_id(store.reads, store.jobs, identity)
        candidate = store.reads.get(GapCandidate, told.subject_id)
    articles = _news(settings, candidate) if news else None
    if as_json:
        print_json(told if articles is None else {**as_plain(told), "news": articles})
        return
    from finagent.cli.result_table import terminal

    terminal().print(_tree(told, articles), highlight=False)


def _news(settings: "Settings", candidate: "GapCandidate | None") -> "tuple[Article, ...]":
    """What was published of the candidate's symbol in the day before it was found."""
    import asyncio
    from datetime import timedelta

    from finagent.bootstrap import open_news

    if candidate is None:
        raise BadInput("--news is about one candidate: name a decision, or an order or a job of one")
    found_at, symbol = candidate.as_of, candidate.symbol

    async def ask() -> "tuple[Article, ...]":
        async with open_news(settings) as source:
            return await source.articles((symbol,), found_at - timedelta(days=1), found_at)

    try:
        return asyncio.run(ask())
    except Transient as error:
        raise Unavailable(f"no news: {error}") from error


def _tree(told: "Explanation", articles: "tuple[Article, ...] | None") -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    from finagent.cli.result_table import gate_table
    from finagent.services.reporting.canonical import as_plain

    tree = Tree(
        Text.assemble((told.subject.lower(), "dim"), " ", (told.subject_id, "bold"), f"  {told.title}"), guide_style="dim"
    )
    tree.add(Text(told.ending, style="bold"))
    tree.add(Text(f"data: {told.notice}", style="dim"))
    tree.add(Text(f"trace {told.trace_id}" + (f", asked for {told.focus}" if told.focus else ""), style="dim"))
    steps = tree.add("[bold]what happened[/bold]") if told.steps else None
    for step in told.steps:
        assert steps is not None
        branch = steps.add(
            Text.assemble((_clock(step.at), "dim"), "  ", (f"{step.kind:<10}", _STYLES.get(step.kind, "")), " ", step.text)
        )
        facts: dict[str, Any] = as_plain(step.facts)
        checks = facts.pop("checks", {})
        if facts:
            branch.add(Text(", ".join(f"{name} {_short(value)}" for name, value in facts.items()), style="dim"))
        if checks:
            branch.add(gate_table(checks))
    if articles is not None:
        written = tree.add("[bold]news of the day before[/bold]" + ("" if articles else " none"))
        for article in articles:
            written.add(Text.assemble((_clock(article.at), "dim"), f"  {article.headline} ", (article.source, "dim")))
    if told.events:
        events = tree.add("[bold]recorded events[/bold] (hash chain, in order of commit)")
        for event in told.events:
            body = ", ".join(f"{name} {_short(as_plain(value))}" for name, value in event.body.items())
            events.add(Text.assemble((_clock(event.at), "dim"), f"  {event.kind}  ", (body, "dim")))
    if told.jobs:
        jobs = tree.add("[bold]jobs[/bold]")
        for job in told.jobs:
            failed = f", {job.attempts} failures, {job.crashes} crashes {job.last_error}" if job.attempts or job.crashes else ""
            jobs.add(Text(f"{job.id}  {job.type:<10} {job.status.value}{failed}"))
    for name, ids in told.related.items():
        tree.add(Text(f"{name}: {', '.join(ids)}", style="dim"))
    return tree


_STYLES = {"verdict": "cyan", "fill": "green", "outcome": "bold", "exit": "bold", "send": "yellow"}


def _clock(at: "datetime | None") -> str:
    from finagent.domain.time import EXCHANGE_ZONE

    return f"{at.astimezone(EXCHANGE_ZONE):%Y-%m-%d %H:%M:%S}" if at else " " * 19


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(item)}" for name, item in value.items())
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
