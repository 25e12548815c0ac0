"""`MonitoringStack`: the same five series, one burn-rate alert and one dashboard for every runtime."""
