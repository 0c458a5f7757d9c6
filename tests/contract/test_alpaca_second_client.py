"""Alpaca's TypeScript SDK, which shares no code with the Python one, understands the simulator in a scripted conversation."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.contract.alpaca_api import alpaca

PACKAGE = "@alpacahq/alpaca-trade-api"
SCRIPT = Path(__file__).with_name("alpaca_second_client.mjs")
CONVERSATION_SECONDS = 30


@pytest.fixture
def client_folder() -> Path:
    """FINAGENT_TEST_ALPACA_CLIENT, else `.alpaca-client` in the repository: where npm installed the second client."""
    folder = Path(os.environ.get("FINAGENT_TEST_ALPACA_CLIENT", REPOSITORY / ".alpaca-client"))
    if shutil.which("node") is None or not (folder / "node_modules" / PACKAGE).is_dir():
        pytest.skip(f"no second client: node, and npm install --prefix {folder.name} {PACKAGE}@4.0.2")
    return folder


async def test_a_second_independent_client_trades_and_listens(tmp_path: Path, client_folder: Path) -> None:
    async with alpaca(tmp_path) as venue:
        process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), str(client_folder), venue.url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(CONVERSATION_SECONDS):
            said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    assert json.loads(said) == {
        "account": "simulated",
        "clock": True,
        "placed": ["new", ["held", "held"]],
        "again": [422, 40010001],
        "filled": "filled",
        "position": "10",
        "cancelled": [200, 200],
        "closed": [200],
        "left": 0,
        "history": 2,
        "more": True,
        "updates": ["new AAPL", "fill AAPL", "new AAPL", "canceled AAPL", "canceled AAPL", "new AAPL", "fill AAPL"],
        "bars": ["AAPL 100"] * 4,
    }
