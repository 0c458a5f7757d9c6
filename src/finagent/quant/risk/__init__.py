"""Numbers of portfolio risk: value at risk and its backtests, covariance, components, drawdown, hierarchical risk parity."""
