"""SentimentScorer by a lexicon: VADER's rules of negation, degree and contrast over words as finance means them.

Importing this module reads VADER's lexicon on first use (50 ms).
"""

import re
from collections.abc import Sequence
from functools import cached_property

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from finagent.domain.ports.news import legible

# Valences on VADER's scale, -4 to 4. A changed word changes the features: raise their version in the catalogue (VERSIONS).
FINANCE_WORDS = {
    valence: words.split()
    for valence, words in {
        3.0: "soar soars soared surge surges surged skyrocket skyrockets skyrocketed",
        2.0: """beat beats upgrade upgrades upgraded rally rallies rallied jump jumps jumped outperform outperforms outperformed
            bullish breakthrough approval approves approved profit profits profitable record""",
        1.0: """above raise raises raised lift lifts lifted rise rises rose climb climbs climbed gain gains gained top tops topped
            exceed exceeds exceeded buyback buybacks dividend dividends growth grows grew expand expands expanded win wins won
            higher strong rebound rebounds rebounded overweight""",
        -1.0: """below fall falls fell drop drops dropped slip slips slipped decline declines declined cut cuts lower lowers
            lowered weak delay delays delayed dilute dilutes dilution offering underweight writedown impairment restructuring""",
        -2.0: """miss misses missed downgrade downgrades downgraded slump slumps slumped tumble tumbles tumbled sink sinks sank
            slash slashes slashed loss losses lawsuit lawsuits sue sues sued probe probes probed investigation recall recalls
            recalled warn warns warned warning layoff layoffs underperform underperforms bearish halt halts halted reject rejects
            rejected resign resigns resigned restate restates restated subpoena breach shortfall suspend suspends suspended""",
        -3.0: """plunge plunges plunged crash crashes crashed plummet plummets plummeted bankrupt bankruptcy insolvent insolvency
            default defaults defaulted delist delists delisted delisting fraud fraudulent""",
    }.items()
}
# Words that are good or bad in a conversation and nothing in a headline about a company (Loughran & McDonald 2011).
PLAIN_WORDS = """
alliance capital charge charges competitive cost costs crude cancer credit debt debts demand energy exchange fine fire gross
interest like limited liability mine option options play please pressure prices pull share shares solution solutions stock stocks
superior tax taxes trust united vice war worth yield
"""
# What rises and falls. A noun that a direction is said of takes its own valence off: "profit falls" is no profit, and "loss
# narrows" no loss. What is said is then the direction times whether more of the noun is good.
MORE_IS_GOOD = """bookings deliveries demand dividend dividends earnings growth guidance income margin margins orders outlook
output profit profits revenue revenues sales"""
MORE_IS_BAD = """bankruptcies complaints cost costs debt debts default defaults delays delinquencies expense expenses layoffs loss
losses recalls shortfall writedowns"""
RISES = """climb climbs climbed expand expands expanded gain gains gained grow grows grew higher increase increases increased jump
jumps jumped mount mounts mounted rebound rebounds rebounded rise rises rising rose soar soars soared surge surges surged swell
swells swelled up widen widens widened"""
FALLS = """decline declines declined decrease decreases decreased down drop drops dropped ease eases eased fall falls falling fell
lower narrow narrows narrowed plummet plummets plummeted plunge plunges plunged shrink shrinks shrank sink sinks sank slide slides
slid slip slips slipped slump slumps slumped tumble tumbles tumbled"""
LIFTS = "boost boosts boosted lift lifts lifted raise raises raised"  # somebody lifts something: its noun follows
CUTS = "cut cuts lowers lowered reduce reduces reduced slash slashes slashed trim trims trimmed"
_GOOD = dict.fromkeys(MORE_IS_GOOD.split(), 1) | dict.fromkeys(MORE_IS_BAD.split(), -1)
_DIRECTION = dict.fromkeys(f"{RISES} {LIFTS}".split(), 1) | dict.fromkeys(f"{FALLS} {CUTS}".split(), -1)
_TRANSITIVE = frozenset(f"{LIFTS} {CUTS}".split())
_STRENGTH = {word: round(abs(valence)) for valence, words in FINANCE_WORDS.items() for word in words}
_REACH = 3  # words between a direction and its noun, at most
_PLAIN, _STRENGTHS = "figure", (1, 2, 3)
_WORD = re.compile(r"[\w%.'-]*\w")
_CLAUSE_ENDS = (",", ";", ":", "but", "while", "as", "and", "despite", "after")


def directions_bound(headline: str) -> str:
    """The headline with each direction that is said of a noun, and the noun, replaced by what both say together."""
    words = headline.split()
    plain = [found.group().lower() if (found := _WORD.search(word)) else word for word in words]
    told = list(words)
    for place, word in enumerate(plain):
        noun = _noun_of(place, words, plain) if word in _DIRECTION else None
        if noun is not None:
            good = _DIRECTION[word] * _GOOD[plain[noun]] > 0
            told[place], told[noun] = _bound(good, _STRENGTH.get(word, 1)), _PLAIN
    return " ".join(told)


def _noun_of(place: int, words: Sequence[str], plain: Sequence[str]) -> int | None:
    """Of the direction there: the nearest before it, of what somebody lifts or cuts the nearest behind it, in the same clause."""
    sides = {
        -1: range(place - 1, max(-1, place - 2 - _REACH), -1),
        1: range(place + 1, min(len(words), place + 2 + _REACH)),
    }
    for side in (1, -1) if plain[place] in _TRANSITIVE else (-1, 1):
        for other in sides[side]:
            between = other if side < 0 else other - 1
            if plain[other] in (*_CLAUSE_ENDS, *_DIRECTION) or words[between].endswith(_CLAUSE_ENDS[:3]):
                break
            if plain[other] in _GOOD:
                return other
    return None


def _bound(good: bool, strength: int) -> str:
    return f"{'better' if good else 'worse'}by{strength}"


class LexiconScorer:
    """Scores are VADER's compound: the sum of valences, squeezed into [-1, 1]."""

    @cached_property
    def _analyzer(self) -> SentimentIntensityAnalyzer:
        analyzer = SentimentIntensityAnalyzer()
        for word in PLAIN_WORDS.split():
            analyzer.lexicon.pop(word, None)
        for valence, words in FINANCE_WORDS.items():
            analyzer.lexicon.update(dict.fromkeys(words, valence))
        for strength in _STRENGTHS:
            analyzer.lexicon |= {_bound(True, strength): float(strength), _bound(False, strength): -float(strength)}
        return analyzer

    def scores(self, headlines: Sequence[str]) -> Sequence[float]:
        told = [self._analyzer.polarity_scores(directions_bound(legible(headline)))["compound"] for headline in headlines]
        return [min(1.0, max(-1.0, float(score))) for score in told]
