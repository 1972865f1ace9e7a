"""How often in a row each site has asked us to slow down: one ban must not be paid for by each job anew."""

from datetime import datetime


class Strikes:
    """Counts for the sites of one server or worker; forgotten with it, which only makes the first wait short again."""

    def __init__(self) -> None:
        self._strikes: dict[str, tuple[int, datetime]] = {}

    def number(self, site: str, now: datetime) -> int:
        """Return which refusal in a row one that comes now is; those of one moment are one."""
        count, until = self._strikes.get(site, (0, now))
        return max(count, 1) if now < until else count + 1

    def note(self, site: str, number: int, until: datetime) -> None:
        """Remember a refusal and the moment until which the site is left alone."""
        self._strikes[site] = (number, until)

    def clear(self, site: str) -> None:
        """Begin anew: the site has answered."""
        self._strikes.pop(site, None)
