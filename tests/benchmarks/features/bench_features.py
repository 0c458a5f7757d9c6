"""One-bar update of many symbols by the libraries that people use, and a batch over history.
usage: python bench_features.py [S=200] [state_bytes=6000]
After the measurements of performance.md 2; NF counts what each computes, SYMBOLS how many symbols a call covers."""
import sys, time
import numpy as np
S = int(sys.argv[1]) if len(sys.argv) > 1 else 200
STATE = int(sys.argv[2]) if len(sys.argv) > 2 else 6000
W = 256
r = np.random.default_rng(11)
c = 100 * np.exp(np.cumsum(r.standard_normal((W + 64, S)) * 0.001, axis=0)); o = c * np.exp(r.standard_normal(c.shape) * 0.0005)
h = np.maximum(o, c) * (1 + np.abs(r.standard_normal(c.shape)) * 0.0005); l = np.minimum(o, c) * (1 - np.abs(r.standard_normal(c.shape)) * 0.0005)
v = r.integers(100, 100_000, c.shape).astype(float)
NF = {}; SYMBOLS = {}
SP = (5, 10, 20, 50, 100, 200); RP = (7, 14, 21); RC = (1, 5, 10, 20, 60); WP = (5, 10, 20, 50)
def med(f, n=5):
    f(); t = []
    for _ in range(n): a = time.perf_counter(); x = f(); t.append(time.perf_counter() - a)
    return sorted(t)[n // 2], x
def rep(name, f, k=5):
    s, _ = med(f, k); print(f'{name:24s} {s / SYMBOLS[name] * 1e6:9.3f} us/symbol {s / SYMBOLS[name] / NF[name] * 1e9:9.2f} ns/feature', flush=True)
Ss = min(S, 200)
cols = [[np.ascontiguousarray(x[:W, s]) for x in (o, h, l, c, v)] for s in range(Ss)]
import talib
import talib.stream as ts
def stream_all(o, h, l, c, v):
    for p in SP: ts.SMA(c, p); ts.EMA(c, p)
    for p in RP: ts.RSI(c, p); ts.ATR(h, l, c, p); ts.NATR(h, l, c, p)
    for p in RC: ts.ROC(c, p); ts.MOM(c, p)
    for p in WP: ts.STDDEV(c, p); ts.MAX(c, p); ts.MIN(c, p); ts.SMA(v, p)
    ts.BBANDS(c, 20, 2, 2); ts.MACD(c); ts.ADX(h, l, c); ts.PLUS_DI(h, l, c); ts.MINUS_DI(h, l, c); ts.DX(h, l, c); ts.STOCHF(h, l, c); ts.STOCH(h, l, c); ts.WILLR(h, l, c); ts.CCI(h, l, c); ts.OBV(c, v); ts.MFI(h, l, c, v); ts.CMO(c); ts.TRANGE(h, l, c); ts.BOP(o, h, l, c); ts.AD(h, l, c, v); ts.ADOSC(h, l, c, v); ts.APO(c); ts.PPO(c); ts.LINEARREG_SLOPE(c); ts.LINEARREG(c); ts.AROON(h, l); ts.TRIX(c, 15); ts.ULTOSC(h, l, c)
NF['TA-Lib stream'] = 80; SYMBOLS['TA-Lib stream'] = Ss
def f_stream():
    for a in cols: stream_all(*a)
rep('TA-Lib stream', f_stream)
import talipp.indicators as ti
from talipp.ohlcv import OHLCV
def make():
    C = [ti.SMA(p) for p in SP] + [ti.EMA(p) for p in SP] + [ti.RSI(p) for p in RP] + [ti.ROC(p) for p in RC] + [ti.StdDev(p) for p in WP] + [ti.BB(20, 2), ti.MACD(12, 26, 9), ti.TRIX(15)]
    B = [ti.ATR(p) for p in RP] + [ti.ADX(14, 14), ti.Stoch(14, 3), ti.CCI(14), ti.OBV(), ti.Aroon(14), ti.UO(7, 14, 28), ti.DonchianChannels(20)]
    return C, B
sets = [make() for _ in range(10)]
NF['talipp'] = len(sets[0][0]) + len(sets[0][1]) + 2 + 2 + 2 + 1 + 1 + 2; SYMBOLS['talipp'] = 10
step = [0]
def f_talipp():
    i = step[0] % len(c); step[0] += 1
    for s, (C, B) in enumerate(sets):
        x = float(c[i, s]); b = OHLCV(float(o[i, s]), float(h[i, s]), float(l[i, s]), x, float(v[i, s]))
        for q in C: q.add(x)
        for q in B: q.add(b)
for _ in range(W): f_talipp()
rep('talipp', f_talipp)
import polars as pl
sym = np.repeat(np.arange(S), W); X = pl.col
frame = pl.DataFrame({'s': sym, 'h': h[:W].T.ravel(), 'l': l[:W].T.ravel(), 'c': c[:W].T.ravel(), 'v': v[:W].T.ravel()})
def expressions():
    C = X('c'); F = []
    for p in SP:
        a = C.rolling_mean(p); e = C.ewm_mean(span=p, adjust=False); F += [a.last().alias(f'a{p}'), e.last().alias(f'e{p}'), (C.last() / a.last() - 1).alias(f'ca{p}'), (C.last() / e.last() - 1).alias(f'ce{p}')]
    d = C.diff(); g = d.clip(lower_bound=0); ls = -d.clip(upper_bound=0); tr = pl.max_horizontal(X('h'), C.shift()) - pl.min_horizontal(X('l'), C.shift())
    for p in RP:
        gg = g.ewm_mean(alpha=1 / p, adjust=False).last(); ll = ls.ewm_mean(alpha=1 / p, adjust=False).last(); t = tr.ewm_mean(alpha=1 / p, adjust=False).last(); F += [(100 * gg / (gg + ll)).alias(f'r{p}'), t.alias(f't{p}'), (t / C.last()).alias(f'n{p}')]
    for p in RC: F += [(C.last() / C.shift(p).last() - 1).alias(f'roc{p}'), (C.last() - C.shift(p).last()).alias(f'mom{p}')]
    q = C.pct_change()
    for p in WP:
        s = C.tail(p).std(); m = C.tail(p).max(); n_ = C.tail(p).min(); vm = X('v').tail(p).mean()
        F += [s.alias(f's{p}'), ((C.last() - C.tail(p).mean()) / s).alias(f'z{p}'), m.alias(f'mx{p}'), n_.alias(f'mn{p}'), ((C.last() - n_) / (m - n_)).alias(f'd{p}'), vm.alias(f'v{p}'), (X('v').last() / vm).alias(f'rv{p}'), q.tail(p).std().alias(f'rs{p}')]
    return F
E = expressions(); lazy = frame.lazy().group_by('s').agg(E)
NF['polars tail'] = len(E); SYMBOLS['polars tail'] = S
rep('polars tail', lambda: lazy.collect())
def talib_all(o, h, l, c, v):
    for p in SP: a = talib.SMA(c, p); e = talib.EMA(c, p); c / a - 1; c / e - 1
    for p in RP: talib.RSI(c, p); talib.ATR(h, l, c, p); talib.NATR(h, l, c, p)
    for p in RC: talib.ROC(c, p); talib.MOM(c, p)
    for p in WP: s = talib.STDDEV(c, p); m = talib.MAX(c, p); n = talib.MIN(c, p); (c - talib.SMA(c, p)) / s; (c - n) / (m - n); w = talib.SMA(v, p); v / w; talib.STDDEV(talib.ROCP(c, 1)[1:], p)
    u, b, d = talib.BBANDS(c, 20, 2, 2); (u - d) / b; (c - d) / (u - d); talib.MACD(c, 12, 26, 9); talib.ADX(h, l, c, 14); talib.PLUS_DI(h, l, c, 14); talib.MINUS_DI(h, l, c, 14); talib.DX(h, l, c, 14); talib.STOCHF(h, l, c, 5, 1); talib.STOCH(h, l, c, 5, 3, 0, 3, 0); talib.WILLR(h, l, c, 14); talib.CCI(h, l, c, 14); talib.OBV(c, v); talib.MFI(h, l, c, v, 14); talib.CMO(c, 14); talib.TRANGE(h, l, c); talib.BOP(o, h, l, c); talib.AD(h, l, c, v); talib.ADOSC(h, l, c, v, 3, 10); talib.APO(c, 12, 26, 0); talib.PPO(c, 12, 26, 0); talib.LINEARREG_SLOPE(c, 14); talib.LINEARREG(c, 14); talib.AROON(h, l, 14); talib.TRIX(c, 15); talib.ULTOSC(h, l, c)
NF['TA-Lib batch'] = 107; SYMBOLS['TA-Lib batch'] = Ss * W
def f_batch():
    for a in cols: talib_all(*a)
rep('TA-Lib batch', f_batch)
state = np.random.rand(S * STATE // 8); copied = np.empty_like(state)
s, _ = med(lambda: np.copyto(copied, state)); print(f'  state read and written once {s / S * 1e6:.3f} us/symbol')
