"""`pytest -p tests.planted_bugs.plugin --planted NAME`: the session runs with that bug in the queue."""

import pytest
from tests.planted_bugs import in_the_queue


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--planted", metavar="NAME", required=True, help="a bug of tests/planted_bugs/in_the_queue.py")


def pytest_configure(config: pytest.Config) -> None:
    getattr(in_the_queue, config.getoption("--planted")).plant()
