"""SentimentScorer by a lexicon: VADER's rules of negation, degree and contrast over words as finance means them.

Importing this module reads VADER's lexicon on first use (50 ms).
"""

from collections.abc import Sequence
from functools import cached_property

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from finagent.domain.ports.news import legible

# Valences on VADER's scale, -4 to 4. A changed word changes the features: raise their version in the catalogue.
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


class LexiconScorer:
    """Scores are VADER's compound: the sum of valences, squeezed into [-1, 1]."""

    @cached_property
    def _analyzer(self) -> SentimentIntensityAnalyzer:
        analyzer = SentimentIntensityAnalyzer()
        for word in PLAIN_WORDS.split():
            analyzer.lexicon.pop(word, None)
        for valence, words in FINANCE_WORDS.items():
            analyzer.lexicon.update(dict.fromkeys(words, valence))
        return analyzer

    def scores(self, headlines: Sequence[str]) -> Sequence[float]:
        told = [self._analyzer.polarity_scores(legible(headline))["compound"] for headline in headlines]
        return [min(1.0, max(-1.0, float(score))) for score in told]
