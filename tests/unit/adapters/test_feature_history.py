"""A history of features is whole or not there, mapped and not copied, and refused by name when it is not the one wanted."""

import json
import multiprocessing
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finagent.adapters.features.history_files import ABOUT, VALUES, open_history, write_history
from finagent.adapters.features.schemas import require_table
from finagent.domain.bars import Floats
from finagent.domain.data_spec import DataSpec
from finagent.domain.errors import BadInput
from finagent.quant.features.catalogue import BARS
from finagent.quant.features.contract import require_sound, sound_values

SPEC = BARS.select("some", ("rsi_14", "return_1"))
DAYS, SYMBOLS = (date(2008, 10, 1), date(2008, 10, 2), date(2008, 10, 3)), ("AAPL", "IBM")


def values() -> Floats:
    found = np.arange(12.0).reshape(3, 2, 2)
    found[0, 1, 0] = np.nan
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_history(tmp_path / "history", values(), SPEC, DAYS, SYMBOLS, "sample:1")
    return tmp_path / "history"


def test_what_was_written_is_read(folder: Path) -> None:
    history = open_history(folder, SPEC)
    np.testing.assert_array_equal(history.values, values())
    assert (history.sessions, history.symbols, history.source_id) == (DAYS, SYMBOLS, "sample:1")
    assert not history.values.flags.writeable
    assert isinstance(history.values.base, np.memmap)
    assert history.values[:, :, 0].flags.c_contiguous  # a feature is a column


def _total(folder: str) -> float:
    return float(np.nansum(open_history(Path(folder), SPEC, verify=False).values))


def test_other_processes_map_the_same_file(folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_total, [str(folder)] * 2) == [float(np.nansum(values()))] * 2


def test_another_spec_or_a_damaged_file_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"wanted is .*return_1 differ"):
        open_history(folder, BARS.select("some", ("rsi_14", "return_5")))
    with pytest.raises(BadInput, match="holds no history"):
        open_history(tmp_path / "nothing", SPEC)
    content = bytearray((folder / VALUES).read_bytes())
    content[-1] ^= 1
    (folder / VALUES).write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        open_history(folder, SPEC)
    (folder / VALUES).write_bytes(content[:-8])
    with pytest.raises(BadInput, match="holds no history"):
        open_history(folder, SPEC)
    about = json.loads((folder / ABOUT).read_text())
    (folder / VALUES).write_bytes(content)
    (folder / ABOUT).write_text(json.dumps(about | {"symbols": ["AAPL"]}))
    with pytest.raises(BadInput, match=r"is float64\[2, 3, 2\]"):
        open_history(folder, SPEC)


def test_nothing_is_written_over_or_by_half(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is there already"):
        write_history(folder, values(), SPEC, DAYS, SYMBOLS, "sample:2")
    bad = values()
    bad[1, 1, 1] = bad[2, 0, 1] = np.inf
    with pytest.raises(BadInput, match="return_1: infinite in 2 values of IBM, AAPL, first at 2008-10-02"):
        write_history(tmp_path / "other", bad, SPEC, DAYS, SYMBOLS, "sample:1")
    with pytest.raises(BadInput, match=r"values are float64\[2, 2, 2\], some .* has float64\[3, 2, 2\]"):
        write_history(tmp_path / "other", values()[1:], SPEC, DAYS, SYMBOLS, "sample:1")
    assert sorted(tmp_path.iterdir()) == [folder]


def table(found: Floats, spec: DataSpec) -> pd.DataFrame:
    rows = [(symbol, pd.Timestamp(day, tz="UTC"), *found[d, s]) for d, day in enumerate(DAYS) for s, symbol in enumerate(SYMBOLS)]
    frame = pd.DataFrame(rows, columns=["symbol", "session", *spec.names])
    return frame.astype({"symbol": str, "session": "datetime64[ns, UTC]"})


@pytest.mark.parametrize("value", [0.0, -1e300, np.nan, np.inf, -np.inf])
def test_the_guard_and_the_schema_refuse_the_same(value: float) -> None:
    """numpy where it has to be fast, Pandera where tables are handed on: one rule."""
    found = values()
    found[1, 1, 1] = value
    sound = bool(sound_values(found).all())
    checks: tuple[Callable[[], None], ...] = (
        lambda: require_sound(found, SPEC, DAYS, SYMBOLS, "here"),
        lambda: require_table(table(found, SPEC), SPEC, "table.parquet"),
    )
    for check in checks:
        if sound:
            check()
        else:
            with pytest.raises(BadInput, match=r"return_1.*IBM, first at 2008-10-02"):
                check()


def test_a_table_of_another_spec_is_refused() -> None:
    other = BARS.select("other", ("return_1", "rsi_14"))
    with pytest.raises(BadInput, match="not a table of other"):
        require_table(table(values(), SPEC), other, "table.parquet")
