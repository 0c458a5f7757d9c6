"""See feature_drift for the long form."""

from tests.properties.feature_drift import LIMIT, drift


def test_many_bars_leave_no_drift() -> None:
    told = drift(10_000)
    assert float(str(told["largest"])) <= LIMIT, told
