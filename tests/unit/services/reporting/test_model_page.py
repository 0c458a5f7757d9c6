"""The page of a model says what its package says, every number of it, and makes nothing up where there is nothing."""

import re
from dataclasses import replace
from datetime import date
from xml.etree import ElementTree

import pytest

from finagent.domain.errors import BadInput
from finagent.domain.model_evidence import FeatureImportance, ForwardBlock, HeldOut, LearningStep, ModelEvidence, ReliabilityBin
from finagent.domain.ports.model_registry import ModelVersion
from finagent.services.reporting.model_page import FEATURES_SHOWN, model_page

EVIDENCE = ModelEvidence(
    model="flat",
    skill=0.25,
    learning=(LearningStep(1.2, 1.15, 3), LearningStep(1.1, 1.0987, 3), LearningStep(1.05, 1.13, 2)),
    reliability=(ReliabilityBin(0.31, 0.29, 120), ReliabilityBin(0.44, 0.5, 40), ReliabilityBin(0.62, 0.0, 1)),
    blocks=(
        ForwardBlock(date(2007, 1, 3), date(2007, 12, 31), 90, {"climatology": 1.08, "flat": 1.0712, "boosting": 1.4}, {
            "climatology": 0.65, "flat": 0.6412, "boosting": 0.8}),
        ForwardBlock(date(2008, 1, 2), date(2008, 9, 29), 71, {"climatology": 1.0712, "flat": 1.09, "boosting": 1.3}, {
            "climatology": 0.651, "flat": 0.66, "boosting": 0.79}),
    ),
    importance=tuple(FeatureImportance(f"feature_{number}", 0.03 - 0.002 * number, 0.004) for number in range(24)),
    held_out=HeldOut(date(2008, 2, 1), date(2008, 9, 29), 185, 90, 5),
)  # fmt: skip
FACTS = ModelVersion(
    version="gap-flat@7",
    digest="d" * 64,
    description='three seeds & a <script>alert("x")</script>',
    data_spec_hash="0123456789abcdef",
    features=tuple(each.feature for each in EVIDENCE.importance),
    trained_until=date(2008, 9, 29),
    metrics={"log_loss": 1.0834, "log_loss_climatology": 1.0853, "coverage": 0.13, "trials": 5.0},
    created_by="ann",
    evidence=EVIDENCE,
)


def text_of(page: str) -> str:
    """What a reader reads; raises for a page that is no tree."""
    root = ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>|<br>", "", page).replace("details open", "details"))
    for style in root.iter("style"):
        style.text = ""
    return " ".join("".join(root.itertext()).split())


def test_every_figure_of_the_package_is_on_the_page() -> None:
    page = model_page(FACTS, ["champion"])
    told = text_of(page)

    assert "gap-flat@7" in told
    assert "champion" in told
    assert "3 epochs; least on held-out days after 2" in told
    assert "(3 at first, 2 at last)" in told
    assert "epoch 2: 1.0987" in told
    assert "161 gaps of the walk-forward, which this kind of model (flat) had not seen" in told
    for each in EVIDENCE.reliability:
        assert f"told {each.forecast:.1%}, happened {each.happened:.1%} of {each.rows}" in told
    for block in EVIDENCE.blocks:
        assert f"{block.first} to {block.last}" in told
        assert all(f"{score:.4f}" in told for scores in (block.log_loss, block.brier) for score in scores.values())
    assert "flat, 2007-01-03 to 2007-12-31: -0.0088" in told, "its distance from knowing nothing"
    for rank, one in enumerate(EVIDENCE.importance):
        assert (f"{one.log_loss_increase:+.5f} ± {1.96 * one.standard_error:.5f}" in told) == (rank < FEATURES_SHOWN)
    assert "The other 4 features: -0.01600 to -0.01000 nats." in told
    assert "185 gaps of 90 sessions, 2008-02-01 to 2008-09-29" in told
    assert "a share of 25% in what the model tells" in told
    assert "knowing nothing: 1.0853" in told
    assert "trials" in told
    assert page.count('class="least"') == 2, "the least log-loss of each block is bold"


def test_it_needs_nothing_else_and_every_drawing_stays_in_its_frame() -> None:
    page = model_page(FACTS, [])
    drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]

    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)
    assert "prefers-color-scheme:dark" in page
    assert [each.attrib["aria-label"] for each in drawings] == [
        "Loss by epoch",
        "Calibration",
        "Walk-forward by block",
        "Importance of features",
    ]
    for drawing in drawings:
        _, _, width, height = map(float, drawing.attrib["viewBox"].split())
        for part in drawing.iter():
            x, y = (float(part.attrib.get(name, part.attrib.get(f"c{name}", 0))) for name in ("x", "y"))
            assert 0 <= x + float(part.attrib.get("width", 0)) <= width
            assert 0 <= y + float(part.attrib.get("height", 0)) <= height


def test_what_a_person_wrote_is_text() -> None:
    page = model_page(FACTS, [])
    assert "<script>" not in page
    assert 'three seeds & a <script>alert("x")</script>' in text_of(page)


def test_a_package_without_evidence_says_so_and_shows_none() -> None:
    told = text_of(model_page(replace(FACTS, evidence=None, metrics={}), []))
    assert "brings no learning curve, calibration, walk-forward or importance of features along" in told
    assert "nobody has tested it where it was made" in told
    assert "<svg" not in model_page(replace(FACTS, evidence=None), [])


def test_the_least_evidence_that_there_can_be_is_drawn() -> None:
    """One epoch, one bin, one block of one model, no importance."""
    one = replace(
        EVIDENCE,
        learning=EVIDENCE.learning[:1],
        reliability=(ReliabilityBin(1.0, 1.0, 1),),
        blocks=(replace(EVIDENCE.blocks[0], log_loss={"flat": 1.0}, brier={"flat": 0.6}),),
        importance=(),
        held_out=replace(EVIDENCE.held_out, sessions=1),
    )
    told = text_of(model_page(replace(FACTS, evidence=one), []))
    assert "Too few held-out sessions (1) for an error." in told
    unmoved = replace(EVIDENCE, importance=(FeatureImportance("gap", 0.0, 0.0),))
    assert "+0.00000 ± 0.00000" in text_of(model_page(replace(FACTS, evidence=unmoved), []))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning": (LearningStep(float("nan"), 1.0, 1),)}, "not finite"),
        ({"importance": (FeatureImportance("gap", float("inf"), 0.0),)}, "not finite"),
        ({"blocks": (replace(EVIDENCE.blocks[0], log_loss={"flat": float("inf")}),)}, "not finite"),
        ({"learning": (LearningStep(1.0, 1e308, 1),)}, "not below 1e"),
        ({"model": "convolutional"}, "not of convolutional"),
        ({"blocks": (*EVIDENCE.blocks, replace(EVIDENCE.blocks[0], log_loss={"flat": 1.0}))}, "different models"),
        ({"blocks": (replace(EVIDENCE.blocks[0], brier={"flat": 1.0}),)}, "different models"),
        ({"skill": 1.5}, "not from 0 to 1"),
        ({"reliability": (ReliabilityBin(-0.1, 0.5, 3),)}, "not from 0 to 1"),
        ({"reliability": ()}, "no rows"),
        ({"reliability": (ReliabilityBin(0.1, 0.5, 0),)}, "no rows"),
        ({"blocks": ()}, "no rows"),
        ({"learning": ()}, "no rows"),
    ],
)
def test_evidence_that_is_none_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        replace(EVIDENCE, **changes)  # type: ignore[arg-type]  # any field
