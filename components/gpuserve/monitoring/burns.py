"""How fast a service may spend its error budget before somebody is called.

Burn rates and windows are those of Google's SRE Workbook, chapter 5, table 5-8 ("Recommended parameters for an SLO-based
alerting configuration"), for pages: 2 % of a 30-day budget within one hour is a burn rate of 14.4, 5 % within six hours one of 6.
The short window (a twelfth of the long one) ends the alert soon after the errors end.
https://sre.google/workbook/alerting-on-slos/
"""

from dataclasses import dataclass

from gpuserve.kubernetes.units import Duration


@dataclass(frozen=True)
class Burn:
    """One condition: the budget burns faster than ``rate`` over both windows."""

    rate: float
    long: str
    short: str


BURNS = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
SLOWEST_BURN = min(burn.rate for burn in BURNS)
WINDOWS = tuple(sorted({each for burn in BURNS for each in (burn.long, burn.short)}, key=lambda each: Duration(each).seconds))
"""Windows that burn rates are recorded over, shortest first."""
