"""The contract of NewsPort, for every source that answers without a network (Alpaca's: test_alpaca_news.py)."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from finagent.adapters.calendar import NewYorkCalendar
from finagent.adapters.market_data.bridged_market import BridgedMarketPolicy
from finagent.adapters.market_data.daily_panel import HistoryPolicy
from finagent.adapters.market_data.sample import sample_market
from finagent.adapters.news.files import FileNews
from finagent.adapters.news.simulated import SimulatedNews
from finagent.domain.errors import BadInput
from finagent.domain.ports.news import NewsPort
from finagent.domain.time import to_text

MARKET = sample_market(
    NewYorkCalendar(),
    seed=1,
    first=date(2008, 10, 6),
    last=date(2008, 10, 15),
    policy=BridgedMarketPolicy(HistoryPolicy(mean_sessions=5, hole_sessions_max=2), cached_sessions_max=9),
)
FIRST, LAST = MARKET.sessions()[0].opens_at, MARKET.sessions()[-1].closes_at
HOUR = timedelta(hours=1)


def simulated(_folder: Path) -> NewsPort:
    return SimulatedNews(MARKET)


def files(folder: Path) -> NewsPort:
    rows = []
    for number, session in enumerate(MARKET.sessions()):
        at, symbol = session.opens_at + timedelta(minutes=7 * number), MARKET.symbols[number % len(MARKET.symbols)]
        rows.append(f"{symbol},{to_text(at)},{symbol} is number {number},{to_text(at + number * HOUR)},wire")
    (folder / "news.csv").write_text("\n".join(("symbol,timestamp,headline,known_at,source", *reversed(rows))) + "\n")
    return FileNews([folder / "news.csv"])


SOURCES = {"simulated": simulated, "files": files}


@pytest.fixture(params=SOURCES)
def news(request: pytest.FixtureRequest, tmp_path: Path) -> NewsPort:
    make: Callable[[Path], NewsPort] = SOURCES[request.param]
    return make(tmp_path)


async def test_articles_come_in_order_each_once(news: NewsPort) -> None:
    found = await news.articles(MARKET.symbols, FIRST, LAST)
    assert len(found) >= 5
    assert [article.at for article in found] == sorted(article.at for article in found)
    assert len({article.article_id for article in found}) == len(found)
    assert await news.articles(MARKET.symbols, FIRST, LAST) == found


async def test_a_span_has_what_was_published_in_it_and_is_about_the_symbols(news: NewsPort) -> None:
    whole = await news.articles(MARKET.symbols, FIRST, LAST)
    middle = whole[len(whole) // 2].at
    assert await news.articles(MARKET.symbols, middle, LAST) == tuple(each for each in whole if each.at >= middle)
    symbol = whole[0].symbols[0]
    assert await news.articles((symbol,), FIRST, LAST) == tuple(each for each in whole if symbol in each.symbols)
    assert await news.articles(("NOBODY",), FIRST, LAST) == ()


async def test_nobody_knows_what_is_told_later(news: NewsPort) -> None:
    for article in await news.articles(MARKET.symbols, FIRST, LAST):
        before = await news.articles(MARKET.symbols, FIRST, article.known_at - timedelta(seconds=1))
        then = await news.articles(MARKET.symbols, FIRST, article.known_at)
        assert article not in before
        assert article in then


def written(folder: Path, *rows: str) -> FileNews:
    (folder / "news.csv").write_text("\n".join(("symbol,timestamp,headline,known_at", *rows)) + "\n")
    return FileNews([folder / "news.csv"])


async def test_a_revised_headline_reads_as_it_did_until_it_was_revised(tmp_path: Path) -> None:
    news = written(
        tmp_path,
        "IBM,2024-01-02T14:00:00Z,IBM falls,2024-01-02T14:00:00Z",
        '"IBM,AAPL",2024-01-02T15:00:00Z,Two fall,2024-01-02T15:00:00Z',
        "IBM,2024-01-02T14:00:00Z,IBM rises,2024-01-02T18:00:00Z",
    )

    async def headlines(until: str) -> list[str]:
        found = await news.articles(("IBM",), datetime.fromisoformat("2024-01-02T00:00:00Z"), datetime.fromisoformat(until))
        return [article.headline for article in found]

    assert await headlines("2024-01-02T13:59:59Z") == []
    assert await headlines("2024-01-02T17:59:59Z") == ["IBM falls", "Two fall"]
    assert await headlines("2024-01-02T18:00:00Z") == ["IBM rises", "Two fall"]


async def test_two_headlines_of_one_second_are_two(tmp_path: Path) -> None:
    rows = [f"IBM,2024-01-02T14:00:00Z,{text}," for text in ("IBM beats estimates", "IBM sued for fraud")]
    news = written(tmp_path, *rows)
    found = await news.articles(("IBM",), datetime.fromisoformat("2024-01-02T00:00:00Z"), datetime.max.replace(tzinfo=UTC))
    assert [article.headline for article in found] == ["IBM beats estimates", "IBM sued for fraud"]


async def test_a_headline_cannot_drive_a_terminal(tmp_path: Path) -> None:
    news = written(tmp_path, "IBM,2024-01-02T14:00:00Z,\x1b]0;owned\x07\x1b[2J IBM \u202esoars,")
    (article,) = await news.articles(("IBM",), datetime.fromisoformat("2024-01-02T00:00:00Z"), datetime.max.replace(tzinfo=UTC))
    assert article.headline == "]0;owned[2J IBM soars"


def test_a_file_without_news_is_none(tmp_path: Path) -> None:
    written(tmp_path)


def test_a_headline_that_is_known_before_it_is_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"news.csv: known_at: 1 rows are known before their time, first IBM at"):
        written(tmp_path, "IBM,2024-01-02T14:00:00Z,IBM falls,2024-01-02T13:00:00Z")


def test_a_time_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"news.csv: timestamp: 1 rows are not UTC instants .* first 'today' of IBM"):
        written(tmp_path, "IBM,today,IBM falls,2024-01-02T13:00:00Z")
