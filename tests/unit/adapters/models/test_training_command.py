"""What commands have left is read back, whoever was killed while it wrote."""

from pathlib import Path

from finagent.adapters.models.training_command import OUTCOMES, commands_ended, note_ended
from finagent.services.scheduling.scheduled_training import TrainingsEnded


def test_the_last_commands_are_told_and_half_a_line_is_none(tmp_path: Path) -> None:
    assert commands_ended(tmp_path / "nothing", 3) == ()
    ended = [TrainingsEnded(f"gap@{number}", number, 0, True) for number in range(5)]
    for each in ended:
        note_ended(tmp_path / "training", each)
    assert commands_ended(tmp_path / "training", 2) == tuple(ended[-2:])
    with (tmp_path / "training" / OUTCOMES).open("ab") as file:
        file.write(b'{"version": "gap@9", "fin')
    assert commands_ended(tmp_path / "training", 2) == tuple(ended[-2:])
    note_ended(tmp_path / "training", TrainingsEnded("gap@10", 1, 0, True))
    note_ended(tmp_path / "training", TrainingsEnded("gap@11", 1, 0, True))
    assert [each.version for each in commands_ended(tmp_path / "training", 9)][-2:] == ["gap@4", "gap@11"]
