"""The noun of whole jobs: what was done, and what everyone took for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """What everyone took for a job.

    Parameters
    ----------
    name : str
        What was done.
    work : float
        How much, in `unit`.
    unit : str
        What the speed counts in a second.
    seconds : dict of str to tuple of float
        By who did it, turn by turn; fastinit comes first.

    Examples
    --------
    >>> job = Job("write", 4.0, "GB", {"fastinit": (2.0, 2.5), "limit": (1.0, 2.0)})
    >>> job.best("fastinit"), job.ratio("limit")
    (2.0, 0.5)
    """

    name: str
    work: float
    unit: str
    seconds: dict[str, tuple[float, ...]]

    def best(self, who: str) -> float:
        """Return the shortest time, in seconds."""
        return min(self.seconds[who])

    def ratio(self, who: str) -> float:
        """Return the shortest time in units of fastinit's."""
        return self.best(who) / self.best(next(iter(self.seconds)))
