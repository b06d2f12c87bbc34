"""Will it train? Signal and gradients of a network before its first step.

`probe` pushes a batch through a deep network, and random gradients back, for one or several
initializers; it measures what becomes of both, says what theory expects, gives a verdict, and
names what to use instead. The submodules `training`, `pictures` and `report` need the extra
``probe``; they are imported when they are used.
"""

from fastinit.diagnostics._probe import (
    SATURATED,
    Histogram,
    Probe,
    Setting,
    Signal,
    histograms,
    plain,
    probe,
)

__all__ = ["SATURATED", "Histogram", "Probe", "Setting", "Signal", "histograms", "plain", "probe"]
