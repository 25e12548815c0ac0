"""What every component shares: strict specs, units, errors, labels, hand-over values, registration."""
