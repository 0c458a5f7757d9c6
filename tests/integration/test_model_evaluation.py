"""`finagent models evaluate`: baselines and specialists on the same unseen gaps of real days."""

import contextlib
import io
import json
import subprocess
import sys
from typing import Any

from finagent.cli.app import run
from finagent.services.market_data.past_opens import AT_THE_OPEN

SMALL = {
    "market_data.first_session": "2008-06-02",
    "market_data.last_session": "2009-05-29",
    "learning.first_test_sessions": 160,
    "learning.block_sessions": 50,
    "learning.members": 1,
    "learning.hidden_units": 8,
    "learning.epochs": 3,
}
WORDS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


def said(*words: str, code: int = 0) -> Any:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(["models", "evaluate", *WORDS, *words, "--json"]) == code
    return json.loads(out.getvalue())


def test_every_model_is_judged_on_the_same_rows_and_none_is_far_from_the_base_rates() -> None:
    told = said("--set", "learning.earlier_trials=3")
    models = {each["name"]: each for each in told["models"]}

    assert list(models) == ["climatology", "logistic", "boosting", "bull", "bear", "sideways", "generalist"]
    assert told["data_spec_hash"] == AT_THE_OPEN.hash
    assert told["trials"] == 10
    assert told["blocks"] == 2
    assert 50 < told["rows"] < told["candidates"]
    base = models["climatology"]
    assert base["deflated_sharpe"] is None
    for role in ("bull", "bear", "sideways", "generalist"):
        assert models[role]["brier"] <= base["brier"] + 0.02, "a network of three epochs that claims nothing"
    assert models["boosting"]["coverage"] > 0.0


def test_a_window_that_is_too_short_is_refused() -> None:
    assert "no row from session 5000 on" in said("--set", "learning.first_test_sessions=5000", code=2)["error"]


def test_without_the_extra_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['sklearn'] = None; from finagent.cli.app import run; sys.exit(run(['models', 'evaluate']))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 2
    assert "pip install 'finagent[models]'" in answer.stderr
