"""Experiments from a recipe and a folder of rows, as the process of a training makes them by name.

`block` of a recipe is the number of the walk-forward's block that is tested, null where all rows are learned from; `blocks` are
the arguments of Blocks. A library is imported by whoever needs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finagent.adapters.models.row_files import open_rows
from finagent.quant.evaluation.walk_forward import Blocks, walk_forward
from finagent.quant.specialists.experiment import Experiment
from finagent.quant.specialists.training_rows import TrainingRows
from finagent.quant.specialists.trials import Learner, Trial

if TYPE_CHECKING:
    from finagent.quant.specialists.training import SpecialistTraining


def plain(recipe: Mapping[str, Any], data: Path) -> Experiment:
    """One of the plain models: `model`."""
    from finagent.quant.specialists.plain import PlainTraining

    return _over(recipe, data, lambda known: PlainTraining(known, recipe["model"]))


def specialist(recipe: Mapping[str, Any], data: Path) -> Experiment:
    """A network, with the numbers of Recipe."""
    return _over(recipe, data, lambda known: specialist_training(recipe, known))


def specialist_training(recipe: Mapping[str, Any], rows: TrainingRows) -> "SpecialistTraining":
    """That network over those rows."""
    from finagent.quant.specialists.training import Recipe, SpecialistTraining

    chosen = {each.name: recipe[each.name] for each in fields(Recipe)} | {"seeds": tuple(recipe["seeds"])}
    device = "cpu" if recipe.get("device", "cpu") == "cpu" else "cuda"
    return SpecialistTraining(rows, Recipe(**chosen), device, recipe.get("batch_divisor", 1))


def _over(recipe: Mapping[str, Any], data: Path, make: Callable[[TrainingRows], Learner]) -> Experiment:
    rows = open_rows(data, verify=False).rows
    if recipe["block"] is None:
        return make(rows)
    return Trial(rows, walk_forward(rows.days, rows.days, Blocks(*recipe["blocks"]))[recipe["block"]], make)
