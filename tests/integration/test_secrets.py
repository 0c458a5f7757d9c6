"""Thirty planted secrets, three of every place that holds one: none is in any log, traceback, metric, report or file."""

import asyncio
import base64
import json
import logging
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.integration.test_live_day import at_alpaca, lived, simulator
from tests.unit.adapters.broker.alpaca.scripted_alpaca import Answer, Script

from finagent.bootstrap import build_alpaca_simulator, build_application, build_market
from finagent.cli.app import run
from finagent.settings import secrets_in_use
from finagent.telemetry.logging import LoggingPolicy, configure

log = structlog.get_logger(__name__)

# What escapes masks: words of a URL, quotes, spaces, characters of other scripts, base64, length.
SHAPES = ("Zx/{}+q==", "pä ss'\"{}", "{}" + 120 * "k")
PLACES = (
    "APCA_API_KEY_ID",
    "APCA_API_SECRET_KEY",
    "apca_api_key_id",
    "apca_api_secret_key",
    "FINAGENT_API_TOKEN",
    "token file",
    "storage.url",
    "FINAGENT__STORAGE__URL",
    "queue.redis.url",
    "FINAGENT__QUEUE__REDIS__URL",
)


class Planted:
    """A secret of each place, and everything that was written meanwhile."""

    def __init__(self, shape: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capfd = folder, capfd
        self.secrets = {place: shape.format(f"planted{number:02}") for number, place in enumerate(PLACES)}
        self._written: list[str] = []

    def url(self, place: str, scheme: str) -> str:
        """An address at which nobody is, with the secret for a password."""
        return f"{scheme}://me:{urllib.parse.quote(self.secrets[place], safe='')}@127.0.0.1:1/0"

    def runs(self, *command: str) -> int:
        """A command as a user gives it; whatever it prints is kept."""
        code = run(list(command))
        self._keep()
        return code

    def _keep(self) -> None:
        out, err = self._capfd.readouterr()
        self._written += [out, err]

    def found(self) -> dict[str, list[str]]:
        """Where the heart of a secret stands, in any form."""
        self._keep()
        texts = {f"output {number}": text.encode() for number, text in enumerate(self._written)}
        texts |= {str(file): file.read_bytes() for file in self.folder.rglob("*") if file.is_file()}
        hearts = {place: f"planted{number:02}" for number, place in enumerate(PLACES)}
        return {
            place: where
            for place, heart in hearts.items()
            if (where := [name for name, text in texts.items() if any(form in text for form in _forms(heart))])
        }


def _forms(heart: str) -> tuple[bytes, ...]:
    """The heart itself, and the middle of its base64 at each of the three offsets."""
    encoded = [base64.b64encode(b"x" * shift + heart.encode())[4:-4] for shift in range(3)]
    return heart.encode(), *encoded


@pytest.fixture(params=range(len(SHAPES)), ids=["url", "quoted", "long"])
def planted(
    request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Planted:
    for name in PLACES:
        if name.isupper():
            monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    return Planted(SHAPES[request.param], tmp_path / "work", capfd)


async def _echo(script: Script, keys: dict[str, str]) -> None:
    """A broker that says in its refusals and pages what it was given."""
    body = {"code": 40110000, "message": f"request is not authorized: {json.dumps(keys, ensure_ascii=False)}"}
    for route in ("GET /v2/account", "GET /v2/clock", "GET /v2/calendar", "GET /v2/assets"):
        script.says(route, Answer(403, body))


@pytest.mark.parametrize("kept_in", ["environment", "files"])
def test_keys_are_nowhere_also_where_the_broker_says_them(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept_in: str
) -> None:
    names = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in names:
        if kept_in == "environment":
            monkeypatch.setenv(name, planted.secrets[name])
        else:
            (secrets / name.lower()).write_text(planted.secrets[name.lower()])
    values = [planted.secrets[name if kept_in == "environment" else name.lower()] for name in names]

    async def at_an_echo() -> None:
        script = Script()
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await _echo(script, dict(zip(names, values, strict=True)))
        sets = [f"alpaca.url={url}", f"storage.directory={planted.folder}/agent", f"alpaca.secrets_directory={secrets}"]
        sets += ["orchestrate.mode=paper", "broker.kind=alpaca", "broker.account_id=PA1", "alpaca.read_attempts=1"]
        sets += ["market_data.source=alpaca", "market_data.symbols=[IBM]", "http.enabled=false", "telemetry.level=DEBUG"]
        options = [word for each in sets for word in ("--set", each)]
        for command, code in (("orchestrate", 4), ("doctor", 3), ("status", 2), ("report", 2)):
            assert await asyncio.to_thread(planted.runs, command, *options) in (code, 1, 2, 3, 4)
        assert await asyncio.to_thread(planted.runs, "config", "show", "--json", *options) == 0
        server.close()

    asyncio.run(at_an_echo())
    assert planted.found() == {}


@pytest.mark.parametrize("given", ["option", "environment"])
def test_passwords_of_servers_are_nowhere(planted: Planted, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    places = {"storage.url": "postgresql", "queue.redis.url": "redis"}
    options = ["--set", f"storage.directory={planted.folder}/agent", "--set", "http.enabled=false"]
    for place, scheme in places.items():
        if given == "option":
            options += ["--set", f"{place}={planted.url(place, scheme)}"]
        else:
            name = f"FINAGENT__{place.upper().replace('.', '__')}"
            monkeypatch.setenv(name, planted.url(name, scheme))
    options += ["--set", "queue.backend=redis", "--set", "telemetry.level=DEBUG", "--set", "database.connect_seconds=1"]
    for command in ("orchestrate", "doctor", "status", "report", "halt --reason drill", "db verify"):
        assert planted.runs(*command.split(), *options) != 0
    assert planted.runs("config", "show", *options) == 0
    assert planted.runs("config", "show", "--json", *options) == 0
    assert planted.runs("config", "check", *options) in (0, 2)
    assert planted.found() == {}


@pytest.fixture
def quiet_afterwards() -> Iterator[None]:
    """Logging as it was before the test."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**before)


@pytest.mark.usefixtures("quiet_afterwards")
def test_a_day_with_secrets_leaves_none_behind(planted: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folder, story, report, metrics and the log of everything, frames of the streams among it, of an agent that trades."""
    names = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "FINAGENT_API_TOKEN")
    for name in names:
        monkeypatch.setenv(name, planted.secrets[name])
    (tmp_path / "token").write_text(planted.secrets["token file"])
    there = simulator(tmp_path / "alpaca")
    opened = {"key_id": planted.secrets[names[0]], "secret": planted.secrets[names[1]]}
    there = there.model_copy(update={"alpaca_simulator": there.alpaca_simulator.model_copy(update=opened)})

    async def day() -> None:
        async with build_alpaca_simulator(there, build_market(there)) as url:
            settings = at_alpaca(planted.folder / "agent", url, f"http.token_file={tmp_path / 'token'}")
            configure(LoggingPolicy("DEBUG", "json"), secrets_in_use(settings))
            await lived(settings, url, range(1, 8))
            async with build_application(settings) as application:
                (planted.folder / "metrics").write_bytes(application.parts.metrics.exposition())
                log.info("settings_read", settings=settings.masked(), token=planted.secrets[names[2]])
        where = ["--set", f"storage.directory={settings.storage.directory}"]
        for command in ("status", "status --json", "jobs list", "report", "explain IBM"):
            await asyncio.to_thread(planted.runs, *command.split(), *where)

    asyncio.run(day())
    assert planted.found() == {}
