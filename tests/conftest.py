"""What tests of every room share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def market_data_folder() -> Path:
    """The folder of external market data: FINAGENT_TEST_DATA, else `../shared/data` beside the repository; skips if absent."""
    named = os.environ.get("FINAGENT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no external market data: {folder} is not a folder (set FINAGENT_TEST_DATA)")
    return folder
