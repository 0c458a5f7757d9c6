"""The catalogue: every feature there is, declared here and nowhere else. BARS is of any series of bars, CANDIDATE of a symbol at
a scan: what is known of its session, of its quote and of what is written about it, and BARS of its days.

All values are free of scale: prices of other shares (a split) or another currency leave them as they are. The exception says so
in its unit. A row: name, unit, window and warm-up in bars, neutral value, inputs, source of the formula.
"""

from collections.abc import Iterable

from finagent.domain.data_spec import AvailableAt, DataSpec, FeatureSpec, Group
from finagent.quant.features.smoothing import ema, warmup, wilder

Row = tuple[str, str, int, int, float | None, str, str]

BAR, RATIO, PERCENT, FRACTION, DEVIATIONS = "fraction a bar", "ratio", "percent", "fraction", "standard deviations"
C, HL, CV, OC, HLC, OHLC, HLCV = (
    "close",
    "high low",
    "close volume",
    "open close",
    "high low close",
    "open high low close",
    "high low close volume",
)

SAMPLE = "standard deviation of returns, n - 1"
SKEW, KURT = "m3 / m2^1.5 (scipy.stats.skew)", "m4 / m2^2 - 3 (scipy.stats.kurtosis)"
PARKINSON, GARMAN_KLASS = "Parkinson, Journal of Business 53 (1980)", "Garman & Klass, Journal of Business 53 (1980)"
ROGERS = "Rogers & Satchell, Annals of Applied Probability 1 (1991)"
YANG = "Yang & Zhang, Journal of Business 73 (2000), k = 0.34 / (1.34 + (n + 1) / (n - 1))"
WILDER = "Wilder, New Concepts in Technical Trading Systems (1978)"
PEARSON = "Pearson correlation with the market"
PLACE = "place among all symbols, 0 the least, 1 the greatest"

W7, W14, W21 = (1 + warmup(wilder(period)) for period in (7, 14, 21))
MACD = warmup(ema(26))
SIGNAL = MACD + warmup(ema(9))

RETURNS: list[Row] = [
    ("return_1", FRACTION, 2, 2, None, C, "close / close 1 bar ago - 1 (TA-Lib ROCP)"),
    ("return_2", FRACTION, 3, 3, None, C, "close / close 2 bars ago - 1 (TA-Lib ROCP)"),
    ("return_3", FRACTION, 4, 4, None, C, "close / close 3 bars ago - 1 (TA-Lib ROCP)"),
    ("return_5", FRACTION, 6, 6, None, C, "close / close 5 bars ago - 1 (TA-Lib ROCP)"),
    ("return_10", FRACTION, 11, 11, None, C, "close / close 10 bars ago - 1 (TA-Lib ROCP)"),
    ("return_20", FRACTION, 21, 21, None, C, "close / close 20 bars ago - 1 (TA-Lib ROCP)"),
    ("return_40", FRACTION, 41, 41, None, C, "close / close 40 bars ago - 1 (TA-Lib ROCP)"),
    ("return_60", FRACTION, 61, 61, None, C, "close / close 60 bars ago - 1 (TA-Lib ROCP)"),
    ("return_overnight", FRACTION, 2, 2, None, OC, "open / previous close - 1"),
    ("return_open_to_close", FRACTION, 1, 1, None, OC, "close / open - 1"),
    ("range_1", FRACTION, 1, 1, None, HLC, "(high - low) / close"),
    ("body", RATIO, 1, 1, 0.0, OHLC, "(close - open) / (high - low) (TA-Lib BOP)"),
    ("upper_shadow", RATIO, 1, 1, 0.0, OHLC, "(high - max(open, close)) / (high - low)"),
    ("lower_shadow", RATIO, 1, 1, 0.0, OHLC, "(min(open, close) - low) / (high - low)"),
]
MOMENTS: list[Row] = [
    ("volatility_5", BAR, 6, 6, 0.0, C, SAMPLE),
    ("volatility_10", BAR, 11, 11, 0.0, C, SAMPLE),
    ("volatility_20", BAR, 21, 21, 0.0, C, SAMPLE),
    ("volatility_60", BAR, 61, 61, 0.0, C, SAMPLE),
    ("volatility_ratio_5_60", RATIO, 61, 61, 1.0, C, "volatility_5 / volatility_60"),
    ("volatility_ratio_10_60", RATIO, 61, 61, 1.0, C, "volatility_10 / volatility_60"),
    ("volatility_ratio_20_60", RATIO, 61, 61, 1.0, C, "volatility_20 / volatility_60"),
    ("skewness_20", RATIO, 21, 21, 0.0, C, SKEW),
    ("kurtosis_20", RATIO, 21, 21, 0.0, C, KURT),
    ("return_z_20", DEVIATIONS, 21, 21, 0.0, C, "(return - mean of 20) / volatility_20"),
    ("up_fraction_20", RATIO, 21, 21, None, C, "bars with a positive return / 20"),
]
RANGES: list[Row] = [
    ("parkinson_10", BAR, 10, 10, 0.0, HL, PARKINSON),
    ("parkinson_20", BAR, 20, 20, 0.0, HL, PARKINSON),
    ("garman_klass_10", BAR, 10, 10, 0.0, OHLC, GARMAN_KLASS),
    ("garman_klass_20", BAR, 20, 20, 0.0, OHLC, GARMAN_KLASS),
    ("rogers_satchell_10", BAR, 10, 10, 0.0, OHLC, ROGERS),
    ("rogers_satchell_20", BAR, 20, 20, 0.0, OHLC, ROGERS),
    ("yang_zhang_10", BAR, 11, 11, 0.0, OHLC, YANG),
    ("yang_zhang_20", BAR, 21, 21, 0.0, OHLC, YANG),
    ("overnight_volatility_10", BAR, 11, 11, 0.0, OC, "standard deviation of ln(open / previous close), n - 1"),
    ("overnight_volatility_20", BAR, 21, 21, 0.0, OC, "standard deviation of ln(open / previous close), n - 1"),
    ("overnight_z_20", DEVIATIONS, 21, 21, 0.0, OC, "ln(open / previous close) / overnight_volatility_20"),
    ("true_range_1", FRACTION, 2, 2, None, HLC, "(max(high, previous close) - min(low, previous close)) / close (TA-Lib TRANGE)"),
    ("natr_7", PERCENT, 8, W7, None, HLC, f"{WILDER}: 100 x mean true range / close (TA-Lib NATR)"),
    ("natr_14", PERCENT, 15, W14, None, HLC, f"{WILDER} (TA-Lib NATR)"),
    ("natr_21", PERCENT, 22, W21, None, HLC, f"{WILDER} (TA-Lib NATR)"),
    ("natr_ratio_7_21", RATIO, 22, W21, 1.0, HLC, "natr_7 / natr_21"),
    (
        "ewma_volatility",
        BAR,
        17,
        1 + warmup(0.06),
        None,
        C,
        "root of the exponential mean of squared returns, decay 0.94 (RiskMetrics 1996)",
    ),
    ("bollinger_position_20", RATIO, 20, 20, 0.5, C, "(close - lower band) / (upper - lower), 2 deviations (TA-Lib BBANDS)"),
    ("bollinger_width_20", RATIO, 20, 20, None, C, "(upper band - lower) / mean, 2 deviations (TA-Lib BBANDS)"),
    ("close_z_20", DEVIATIONS, 20, 20, 0.0, C, "(close - mean) / population deviation of closes (TA-Lib STDDEV)"),
]
MOMENTUM: list[Row] = [
    ("rsi_7", PERCENT, 8, W7, 50.0, C, f"{WILDER} (TA-Lib RSI)"),
    ("rsi_14", PERCENT, 15, W14, 50.0, C, f"{WILDER} (TA-Lib RSI)"),
    ("rsi_21", PERCENT, 22, W21, 50.0, C, f"{WILDER} (TA-Lib RSI)"),
    ("cmo_14", PERCENT, 15, W14, 0.0, C, "Chande & Kroll (1994), on Wilder's means (TA-Lib CMO)"),
    ("plus_di_14", PERCENT, 15, W14, 0.0, HLC, f"{WILDER} (TA-Lib PLUS_DI)"),
    ("minus_di_14", PERCENT, 15, W14, 0.0, HLC, f"{WILDER} (TA-Lib MINUS_DI)"),
    ("dx_14", PERCENT, 15, W14, 0.0, HLC, f"{WILDER} (TA-Lib DX)"),
    ("adx_14", PERCENT, 28, 2 * W14, None, HLC, f"{WILDER} (TA-Lib ADX)"),
    ("macd", FRACTION, 26, MACD, None, C, "Appel: (EMA 12 - EMA 26) / close (TA-Lib MACD)"),
    ("macd_signal", FRACTION, 34, SIGNAL, None, C, "EMA 9 of EMA 12 - EMA 26, / close (TA-Lib MACD)"),
    ("macd_histogram", FRACTION, 34, SIGNAL, None, C, "macd - macd_signal (TA-Lib MACD)"),
    ("ppo", PERCENT, 26, MACD, None, C, "100 x (EMA 12 - EMA 26) / EMA 26 (TA-Lib PPO of exponential means)"),
    ("trix_15", PERCENT, 44, 3 * warmup(ema(15)), None, C, "100 x return of the EMA of the EMA of the EMA 15 (TA-Lib TRIX)"),
    ("stochastic_k_14", PERCENT, 14, 14, 50.0, HLC, "Lane: place of the close in the range (TA-Lib STOCHF)"),
    ("stochastic_slow_k_14", PERCENT, 16, 16, None, HLC, "mean of 3 stochastic_k_14 (TA-Lib STOCH)"),
    ("stochastic_slow_d_14", PERCENT, 18, 18, None, HLC, "mean of 3 stochastic_slow_k_14 (TA-Lib STOCH)"),
    ("williams_r_14", PERCENT, 14, 14, None, HLC, "stochastic_k_14 - 100 (TA-Lib WILLR)"),
    ("cci_20", RATIO, 20, 20, 0.0, HLC, "Lambert (1980) (TA-Lib CCI)"),
    ("mfi_14", PERCENT, 15, 15, 50.0, HLCV, "Quong & Soudack (1989) (TA-Lib MFI)"),
    ("slope_20", BAR, 20, 20, None, C, "slope of the least-squares line through closes / close (TA-Lib LINEARREG_SLOPE)"),
    ("slope_fit_20", RATIO, 20, 20, 0.0, C, "share of variance that the line explains (scipy.stats.linregress)"),
]
VOLUME: list[Row] = [
    ("volume_ratio_5", RATIO, 5, 5, 1.0, "volume", "volume / mean of the last 5, the bar itself included"),
    ("volume_ratio_20", RATIO, 20, 20, 1.0, "volume", "volume / mean of the last 20, the bar itself included"),
    ("volume_ratio_60", RATIO, 60, 60, 1.0, "volume", "volume / mean of the last 60, the bar itself included"),
    ("volume_ratio_5_60", RATIO, 60, 60, 1.0, "volume", "mean of 5 / mean of 60"),
    ("volume_ratio_20_60", RATIO, 60, 60, 1.0, "volume", "mean of 20 / mean of 60"),
    ("volume_z_20", DEVIATIONS, 20, 20, 0.0, "volume", "(volume - mean) / population deviation"),
    ("log_dollar_volume_20", "ln USD a bar", 20, 20, None, CV, "ln of the mean of close x volume"),
    ("obv_20", RATIO, 21, 21, 0.0, CV, "change of on-balance volume (Granville 1963; TA-Lib OBV) / volume of 20 bars"),
    ("accumulation_20", RATIO, 20, 20, 0.0, HLCV, "change of accumulation/distribution (Chaikin; TA-Lib AD) / volume of 20 bars"),
    ("vwap_distance_20", FRACTION, 20, 20, 0.0, HLCV, "close / volume-weighted mean of typical prices - 1"),
]
TREND: list[Row] = [
    ("sma_distance_5", FRACTION, 5, 5, None, C, "close / mean close - 1 (TA-Lib SMA)"),
    ("sma_distance_10", FRACTION, 10, 10, None, C, "close / mean close - 1 (TA-Lib SMA)"),
    ("sma_distance_20", FRACTION, 20, 20, None, C, "close / mean close - 1 (TA-Lib SMA)"),
    ("sma_distance_60", FRACTION, 60, 60, None, C, "close / mean close - 1 (TA-Lib SMA)"),
    ("ema_distance_5", FRACTION, 5, warmup(ema(5)), None, C, "close / exponential mean - 1 (TA-Lib EMA)"),
    ("ema_distance_10", FRACTION, 10, warmup(ema(10)), None, C, "close / exponential mean - 1 (TA-Lib EMA)"),
    ("ema_distance_20", FRACTION, 20, warmup(ema(20)), None, C, "close / exponential mean - 1 (TA-Lib EMA)"),
    ("sma_cross_5_20", FRACTION, 20, 20, None, C, "mean of 5 closes / mean of 20 - 1"),
    ("sma_cross_20_60", FRACTION, 60, 60, None, C, "mean of 20 closes / mean of 60 - 1"),
    ("ema_cross_5_20", FRACTION, 20, warmup(ema(20)), None, C, "exponential mean of 5 / of 20 - 1"),
    ("drawdown_20", FRACTION, 20, 20, None, C, "close / highest close - 1 (TA-Lib MAX)"),
    ("drawdown_60", FRACTION, 60, 60, None, C, "close / highest close - 1 (TA-Lib MAX)"),
    ("rebound_20", FRACTION, 20, 20, None, C, "close / lowest close - 1 (TA-Lib MIN)"),
    ("rebound_60", FRACTION, 60, 60, None, C, "close / lowest close - 1 (TA-Lib MIN)"),
    ("channel_position_20", RATIO, 20, 20, 0.5, HLC, "Donchian: place of the close between lowest low and highest high"),
]
MARKET: list[Row] = [
    ("market_return_1", FRACTION, 2, 2, None, C, "return of the index, or the mean return of all symbols"),
    ("market_volatility_20", BAR, 21, 21, 0.0, C, "standard deviation of market_return_1, n - 1"),
    ("beta_60", RATIO, 61, 61, 0.0, C, "covariance with the market / its variance (Sharpe 1964)"),
    ("correlation_20", RATIO, 21, 21, 0.0, C, PEARSON),
    ("correlation_60", RATIO, 61, 61, 0.0, C, PEARSON),
    ("idiosyncratic_return_1", FRACTION, 61, 61, None, C, "return - beta_60 x market_return_1"),
    ("idiosyncratic_volatility_60", BAR, 61, 61, 0.0, C, "deviation of the residuals of the regression on the market, n - 2"),
]
GAP: list[Row] = [
    ("gap", FRACTION, 1, 1, None, "open previous_close", "open / previous close in today's shares - 1"),
    ("gap_magnitude", FRACTION, 1, 1, None, "open previous_close", "|gap|"),
    ("gap_over_natr", RATIO, 15, W14, None, OHLC, "gap / (natr_14 / 100) as of the previous close"),
    ("gap_z", DEVIATIONS, 21, 21, None, OC, "gap / overnight_volatility_20 as of the previous close"),
    ("gap_rank", RATIO, 1, 1, None, "open previous_close", "place of gap among all symbols, 0 the least, 1 the greatest"),
]
SESSION: list[Row] = [
    (
        "log_relative_volume",
        "ln",
        1,
        1,
        None,
        "volume",
        "ln of volume since the open / its mean by that minute of 20 sessions",
    ),
    ("position_in_range", RATIO, 1, 1, 0.5, HLC, "place of the price in the session's range, in the direction of the gap"),
    ("session_return", FRACTION, 1, 1, None, OC, "price / open - 1"),
    ("session_range", FRACTION, 1, 1, None, "high low previous_close", "(high - low) / previous close"),
    ("session_range_over_natr", RATIO, 15, W14, None, HLC, "session_range / (natr_14 / 100) as of the previous close"),
    ("day_return", FRACTION, 1, 1, None, "close previous_close", "price / previous close - 1"),
    (
        "gap_filled",
        RATIO,
        1,
        1,
        None,
        "open high low previous_close",
        "share of the gap that the price came back at its best",
    ),
    ("session_vwap_distance", FRACTION, 1, 1, 0.0, HLCV, "price / volume-weighted mean of typical prices since the open - 1"),
    ("price_age", "minutes", 1, 1, None, "close", "minutes since the last tradable bar"),
    ("minutes_since_open", "minutes", 1, 1, None, "clock", "minutes since the open"),
    ("minutes_to_close", "minutes", 1, 1, None, "clock", "minutes until the close, of half days the early one"),
    ("weekday", "day", 1, 1, None, "clock", "0 Monday to 4 Friday"),
]
QUOTES: list[Row] = [
    ("spread_bps", "bps", 1, 1, None, "bid ask", "(ask - bid) / mid"),
    ("quote_imbalance", RATIO, 1, 1, 0.0, "bid_size ask_size", "(bid size - ask size) / (bid size + ask size)"),
    (
        "microprice_bps",
        "bps",
        1,
        1,
        0.0,
        "bid ask bid_size ask_size",
        "(ask x bid size + bid x ask size) / (bid size + ask size) / mid - 1 (Stoikov, Quantitative Finance 18 (2018), eq. 1)",
    ),
    ("price_to_mid_bps", "bps", 1, 1, None, "close bid ask", "last price / mid - 1"),
    ("quote_age", "seconds", 1, 1, None, "clock", "seconds since the quote was made"),
]
VADER = "finance words in VADER (Hutto & Gilbert, ICWSM-14; Loughran & McDonald, Journal of Finance 66 (2011))"
NEWS_HOURS, SENTIMENT_HALF_LIFE_HOURS = 24.0, 4.0
NEWS: list[Row] = [
    ("news_count_24h", "articles", 1, 1, None, "headline", "articles about the symbol of the last 24 hours"),
    ("news_age", "hours", 1, 1, None, "headline", "hours since the last of them, 24 without any"),
    ("news_sentiment_24h", RATIO, 1, 1, None, "headline", f"their mean score in [-1, 1], 0 without any: {VADER}"),
    (
        "news_sentiment_decay_4h",
        RATIO,
        1,
        1,
        None,
        "headline",
        "sum of their scores, each halved every 4 hours (exponential decay): fresh and one-sided news move it most",
    ),
]
RANKS: list[Row] = [
    ("rank_return_1", RATIO, 2, 2, None, C, PLACE),
    ("rank_return_20", RATIO, 21, 21, None, C, PLACE),
    ("rank_volatility_20", RATIO, 21, 21, None, C, PLACE),
]
VERSIONS = {
    "news_sentiment_24h": 2,
    "news_sentiment_decay_4h": 2,
}  # of formulas that have changed; 2: directions with their nouns


def _declared(group: Group, available_at: AvailableAt, rows: Iterable[Row]) -> tuple[FeatureSpec, ...]:
    return tuple(
        FeatureSpec(
            name, group, unit, window, warm, tuple(inputs.split()), available_at, source, neutral, version=VERSIONS.get(name, 1)
        )
        for name, unit, window, warm, neutral, inputs, source in rows
    )


def _families(available_at: AvailableAt, *families: tuple[Group, list[Row]]) -> tuple[FeatureSpec, ...]:
    return tuple(feature for group, rows in families for feature in _declared(group, available_at, rows))


BARS = DataSpec(
    "bars",
    _families(
        AvailableAt.PREVIOUS_CLOSE,
        (Group.RETURNS, RETURNS),
        (Group.MOMENTS, MOMENTS),
        (Group.MARKET, MARKET),
        (Group.VOLATILITY, RANGES),
        (Group.MOMENTUM, MOMENTUM),
        (Group.VOLUME, VOLUME),
        (Group.TREND, TREND),
        (Group.CROSS_SECTION, RANKS),
    ),
)
CANDIDATE = DataSpec(
    "candidate",
    (
        *_families(AvailableAt.OPEN, (Group.GAP, GAP)),
        *_families(AvailableAt.INTRADAY, (Group.SESSION, SESSION), (Group.QUOTES, QUOTES), (Group.NEWS, NEWS)),
        *BARS.features,
    ),
)
