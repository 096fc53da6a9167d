"""Names the place nearest to a position, from a gazetteer in a package: nothing is looked up online."""

from __future__ import annotations

import math
from dataclasses import dataclass

_FAR = 75.0


@dataclass(frozen=True, slots=True)
class Place:
    """The town whose centre is nearest, in kilometres: not always the one the position lies in."""

    city: str
    region: str
    country: str
    distance: float

    def words(self) -> str:
        """Return it as part of a sentence: ``Arezzo, Tuscany, Italy``."""
        parts = dict.fromkeys(part for part in (self.city, self.region, self.country) if part)
        return ", ".join(parts)


def available() -> bool:
    """Whether the gazetteer is installed."""
    try:
        import reverse_geocode  # noqa: F401
    except ImportError:
        return False
    return True


def nearest(latitude: float, longitude: float) -> Place | None:
    """Return the nearest town within 75 km, or None (the sea, the ice, or no gazetteer)."""
    try:
        import reverse_geocode
    except ImportError:
        return None
    found = reverse_geocode.get((latitude, longitude))
    away = _kilometres(latitude, longitude, float(found["latitude"]), float(found["longitude"]))
    if away > _FAR:
        return None
    return Place(
        str(found.get("city", "")), str(found.get("state", "")), str(found.get("country", "")), round(away, 1)
    )


def _kilometres(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance (haversine) on a sphere of 6371 km."""
    a, b = math.radians(lat1), math.radians(lat2)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 12742.0 * math.asin(math.sqrt(min(1.0, h)))
