"""The scan's contest is fair: the peers' script is untouched, the work is equal, and an absent peer is named."""

import hashlib
import json
from pathlib import Path

import pytest

from finagent.bench.contest import Contestant, Row, interleaved
from finagent.bench.peers import PeerScript
from finagent.bench.scan import SCRIPT, SYMBOLS, ScanOfPeerData, scan_contest
from finagent.bench.whole_pass import whole_pass
from finagent.domain.errors import BadInput, InvariantViolated
from finagent.quant.features.gap_scan import ScanReason, scan

# The script of the peers as it was measured elsewhere: changing it would change the contest.
SCRIPT_SHA256 = "0581e2cde6b3c635e9af9ec014002728075ab2ba9eb678a39769195bfa1d97bd"


def test_the_peers_script_is_as_it_stands() -> None:
    assert hashlib.sha256(SCRIPT.read_bytes()).hexdigest() == SCRIPT_SHA256


def test_ours_finds_the_same_fifty_and_a_reason_for_every_other_symbol() -> None:
    peers = PeerScript(SCRIPT, (str(SYMBOLS),))
    ours = ScanOfPeerData(peers)
    result = scan(ours.state, ours.prior, ours.prior.minutes[0], ours.rules)

    assert {peer.name for peer in peers.contestants} >= {"numpy columns + argpartition top-50", "pure Python dict loop"}
    for peer in peers.contestants:
        assert peer.run() == ours.best(), peer.name
    assert result.reasons.shape == (SYMBOLS,)
    assert (result.reasons == ScanReason.CANDIDATE).sum() == 50
    assert result.counts()["OUTRANKED"] > 50


def test_the_row_has_the_documented_form() -> None:
    document = scan_contest(repeats=5).as_json()

    (row,) = document["rows"]
    assert row.keys() >= {"figure", "unit", "better", "ours", "floor", "peers", "ratio_to_best_peer", "ratio_to_floor", "repeats"}
    assert row["better"] == "lower"
    assert row["repeats"] == 5
    assert row["ratio_to_best_peer"] == pytest.approx(min(row["peers"].values()) / row["ours"])
    assert row["ratio_to_floor"] == pytest.approx(row["floor"] / row["ours"])
    assert 0 < row["floor"] < row["ours"] < 10_000
    assert {"cpu", "cores", "python"} <= document["machine"].keys()
    json.dumps(document, allow_nan=False)


def test_a_peer_that_finds_other_symbols_stops_the_contest(tmp_path: Path) -> None:
    other = tmp_path / "bench_scan.py"
    other.write_text(SCRIPT.read_text().replace("heapq.nlargest(K,out)", "heapq.nsmallest(K,out)"))

    with pytest.raises(InvariantViolated, match="pure Python dict loop finds other symbols"):
        scan_contest(repeats=5, script=other)


def test_an_absent_peer_is_named_with_its_library(tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(
        "import sys; N=int(sys.argv[1])\n"
        "def med(f,n=3): return 0.0,f()\n"
        "def rep(n,f,k=3): med(f,k)\n"
        "from finagent_no_such_peer import engine\n"
        "def fast(): return engine.run(N)\n"
        "rep('fast engine',fast); rep('slow loop',lambda:N)\n"
        "s,_=med(lambda:1)\n"
    )
    peers = PeerScript(script, ("7",))

    assert peers.absent == ["fast engine: finagent_no_such_peer is not installed"]
    assert [(peer.name, peer.run()) for peer in peers.contestants] == [("slow loop", 7)]
    assert len(peers.floors) == 1


def test_contestants_take_turns_and_too_few_repeats_are_refused() -> None:
    turns: list[str] = []
    pair = [Contestant(name, lambda name=name: turns.append(name)) for name in ("a", "b")]  # type: ignore[misc] # mypy cannot infer a lambda's default

    seconds = interleaved(pair, repeats=5, calls=1, warm_ups=0)

    assert turns == ["a", "b"] * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 5, "b": 5}
    with pytest.raises(BadInput, match="at least 5"):
        interleaved(pair, repeats=4, calls=1)


@pytest.mark.parametrize(("better", "expected"), [("lower", 0.5), ("higher", 2.0)])
def test_a_ratio_above_one_is_in_our_favour(better: str, expected: float) -> None:
    row = Row(
        "f",
        "u",
        better,
        ours=10.0,
        floor=5.0,
        peers={"p": 5.0, "weak": 50.0 if better == "lower" else 1.0},
        repeats=5,
        spread=0.1,
    )

    assert row.ratio_to_best_peer == expected
    assert row.ratio_to_floor == expected


def test_a_whole_pass_commits_the_intents_of_twenty_candidates_well_under_a_second() -> None:
    row = whole_pass(repeats=1)

    assert row.unit == "ms"
    assert row.floor is not None
    assert 0 < row.floor < row.ours < 1000


def test_a_pass_that_trades_fewer_is_not_measured() -> None:
    with pytest.raises(InvariantViolated, match="20 entry intents"):
        whole_pass(repeats=1, overrides=["risk.positions_max=3"])
