"""A `.pth` is the weights of one of our networks, or it is refused by name and nothing in it has run."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.adapters.models import state_dicts

from finagent.adapters.models import package
from finagent.adapters.models.state_dicts import open_state_dict
from finagent.domain.errors import BadInput
from finagent.quant.specialists.networks import NETWORKS, specialist

FEATURES = 4
SOUND = state_dicts.weights("flat")


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        open_state_dict(path, FEATURES)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_weights_come_back_as_the_network_that_they_are_of(tmp_path: Path, network: str, archive: bool) -> None:
    (tmp_path / "w.pth").write_bytes(state_dicts.saved(state_dicts.weights(network), archive=archive))
    found = open_state_dict(tmp_path / "w.pth", FEATURES)
    rows = torch.randn(50, 1, FEATURES, generator=torch.Generator().manual_seed(1))

    assert found.kind == network
    with torch.inference_mode():
        expected = specialist(network, FEATURES, 1, 16, 0.3, 1).eval()(rows)[0]
        assert torch.equal(found.network(rows)[0], expected)


def test_nothing_that_a_file_names_is_run(tmp_path: Path) -> None:
    """Each payload is one: whoever loads it without care has made the file."""
    sentinel = tmp_path / "exploded"
    for name, content in state_dicts.bombs(sentinel).items():
        told = refusal(tmp_path / "w.pth", content)
        assert "it is no state dict (" in told, name
        assert "nothing that it names was called" in told, name
        assert "False" not in told, name  # torch advises how to load it all the same
        assert not sentinel.exists(), name
    pickle.loads(state_dicts.bombs(sentinel)["pickle"])
    assert sentinel.exists()


def test_the_refusal_says_what_would_have_been_called(tmp_path: Path) -> None:
    bombs = state_dicts.bombs(tmp_path / "exploded")
    assert "(Trying to load unsupported GLOBAL posix.system whose module posix is blocked)" in refusal(
        tmp_path / "w.pth", bombs["one weight of an archive"]
    )


def changed(**changes: Any) -> dict[str, Any]:
    """The weights with others, or without those that are None."""
    return {name: value for name, value in (SOUND | changes).items() if value is not None}


WRONG: dict[str, tuple[Any, str]] = {
    "a list": ([SOUND], "it is no state dict but list"),
    "a number": (3, "it is no state dict but int"),
    "a checkpoint around it": ({"epoch": 3, "state_dict": SOUND}, "'epoch' is int, not a tensor"),
    "a name that is none": ({1: SOUND["classes.bias"]}, "1 is Tensor, not a tensor"),
    "empty": ({}, "there is no matrix classes.weight in it"),
    "classes as a row": (changed(**{"classes.weight": torch.zeros(3)}), "there is no matrix classes.weight in it"),
    "a missing weight": (changed(**{"quantiles.bias": None}), "it is not the flat network over one row of those features: "
                         "quantiles.bias is missing"),
    "a surplus weight": (changed(**{"body.more": torch.zeros(2)}), "body.more is none of its weights"),
    "another width": (changed(**{"body.body.1.bias": torch.zeros(3)}), "body.body.1.bias is [3], not [16]"),
    "more features": (state_dicts.weights("flat", features=5), "body.body.1.weight is [16, 5], not [16, 4]"),
    "three rows of features": (state_dicts.weights("flat", features=12), "body.body.1.weight is [16, 12], not [16, 4]"),
    "of two networks": (state_dicts.weights("recurrent") | {"body.norm.bias": torch.zeros(4)}, "it is not the recurrent network"),
    "infinite": (changed(**{"classes.bias": torch.tensor([0.0, torch.inf, 0.0])}), "classes.bias has weights that are not"),
    "not a number": (changed(**{"classes.bias": torch.full((3,), torch.nan)}), "classes.bias has weights that are not finite"),
    "double": (changed(**{"classes.bias": torch.zeros(3, dtype=torch.float64)}), "classes.bias is torch.float64"),
    "whole numbers": (changed(**{"classes.bias": torch.zeros(3, dtype=torch.int64)}), "classes.bias is torch.int64"),
    "sparse": (changed(**{"classes.bias": torch.zeros(3).to_sparse()}), "torch.sparse_coo"),
    "without memory": (changed(**{"classes.bias": torch.zeros(3, device="meta")}), "meta"),
    "one number told again and again": (changed(**{"classes.bias": state_dicts.repeated((1 << 20, 1 << 20))}),
                                        "classes.bias of shape [1048576, 1048576] is not contiguous"),
    "a width beyond memory": (changed(**{"classes.weight": state_dicts.repeated((3, 1 << 40))}), "is not contiguous"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_weights_of_ours_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, words = WRONG[name]
    assert words in refusal(tmp_path / "w.pth", state_dicts.saved(content))


def test_many_faults_are_told_in_short(tmp_path: Path) -> None:
    told = refusal(tmp_path / "w.pth", state_dicts.saved({f"other.{name}": value for name, value in SOUND.items()} | {
        "classes.weight": SOUND["classes.weight"]}))  # fmt: skip
    assert told.count(";") == 4
    assert told.endswith(", and 10 more")


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_cut_or_damaged_is_refused(tmp_path: Path, archive: bool) -> None:
    whole = state_dicts.saved(SOUND, archive=archive)
    for length in range(0, len(whole), 97):
        refusal(tmp_path / "w.pth", whole[:length])
    for damaged in (b"", b"no weights at all", bytes(4096), b"PK\x03\x04" + bytes(100)):
        refusal(tmp_path / "w.pth", damaged)


def test_what_unpacks_to_more_than_a_model_may_be_is_refused(tmp_path: Path) -> None:
    small = state_dicts.rezipped(state_dicts.saved(SOUND), compress=True, more=bytes(package.MODEL_BYTES_MAX))
    assert len(small) < 1 << 20
    assert "it unpacks to 67" in refusal(tmp_path / "w.pth", small)
    (tmp_path / "w.pth").write_bytes(bytes(package.MODEL_BYTES_MAX + 1))
    with pytest.raises(BadInput, match=r"w\.pth is larger than 67108864 bytes"):
        open_state_dict(tmp_path / "w.pth", FEATURES)


def elsewhere(folder: Path) -> Path:
    (folder / "real.pth").write_bytes(state_dicts.saved(SOUND))
    (folder / "link.pth").symlink_to(folder / "real.pth")
    return folder / "link.pth"


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.pth", "there is no such file"),
    "folder": (lambda folder: folder, "is no regular file"),
    "link": (elsewhere, "is no regular file"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    make, words = NO_FILES[name]
    with pytest.raises(BadInput, match=words):
        open_state_dict(make(tmp_path), FEATURES)


def test_an_ordered_mapping_of_parameters_is_weights_too(tmp_path: Path) -> None:
    named = OrderedDict(specialist("recurrent", FEATURES, 1, 16, 0.3, 1).named_parameters())
    (tmp_path / "w.pth").write_bytes(state_dicts.saved(named))
    found = open_state_dict(tmp_path / "w.pth", FEATURES)

    assert found.kind == "recurrent"
    assert not any(weight.requires_grad for weight in found.network.parameters())
