"""The picture: a panel for every operation, a bar for every side, each panel with a scale of its own.

Rates of different operations differ by a factor of a thousand. One axis for all of them would have to be logarithmic,
and bars on a logarithmic axis say nothing; so every panel begins at zero and its bars carry their figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.page.operations import (
    BY_NAME,
    ETCD,
    GOALS,
    NATIVE,
    NGHTTPD,
    NGHTTPD_GET,
    PYTHON,
    REDIS,
    REDIS_ALWAYS,
    ROCKSDB,
    SIDES,
    Measured,
)
from tools.bench.page.report import PYTHON_PREFIX, thousands
from tools.bench.page.samples import Sample, median

COLUMNS = 3
COLORS = {
    NATIVE: "#1f6f8b",
    PYTHON: "#7fb7c9",
    ETCD: "#d98e4a",
    REDIS: "#b5483f",
    REDIS_ALWAYS: "#d99a94",
    ROCKSDB: "#9a9a9a",
    NGHTTPD: "#b9b9b9",
    NGHTTPD_GET: "#d3d3d3",
}
INK, PALE, TARGET = "#222222", "#666666", "#e0218a"
BAR_INCHES, HEAD_INCHES = 0.235, 0.62
LABEL_SHARE = 0.18


def draw(measured: Measured, path: Path, title: str, subtitle: str) -> None:
    """Write the picture as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(name, sides) for name, sides in measured.items() if sides]
    panels.sort(key=lambda panel: panel[0].startswith(PYTHON_PREFIX))
    rows = [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]
    heights = [max(len(sides) for _, sides in row) * BAR_INCHES + HEAD_INCHES for row in rows]
    head = 0.85
    figure = pyplot.figure(figsize=(4.4 * COLUMNS, sum(heights) + head), facecolor="white")
    grid = figure.add_gridspec(
        len(rows), COLUMNS, height_ratios=heights, hspace=0.42, wspace=0.48,
        left=0.105, right=0.965, top=1 - head / (sum(heights) + head), bottom=0.02,
    )  # fmt: skip
    for row, operations in enumerate(rows):
        most = max(len(sides) for _, sides in operations)
        for column, (name, sides) in enumerate(operations):
            _panel(figure.add_subplot(grid[row, column]), name, sides, most)
    figure.text(0.015, 1 - 0.24 / (sum(heights) + head), title, fontsize=14, weight="bold", color=INK, va="center")
    figure.text(0.015, 1 - 0.49 / (sum(heights) + head), subtitle, fontsize=9, color=PALE, va="center")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def subtitle(facts: Mapping[str, object], settings: Mapping[str, object]) -> str:
    """Return how to read the picture and where it was made."""
    return (
        f"{facts['processors']} processors shared with the load generator; {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s, medians; a thin line spans the rounds, a red mark is the target. "
        f"{facts['date']}, {facts['commit']}"
    )


def _panel(axes: Any, name: str, sides: Mapping[str, Sequence[Sample]], most: int) -> None:
    """Draw one operation; ``most``: bars in the fullest panel of the row, so that all bars are equally thick."""
    names = [side for side in SIDES if side in sides]
    rates = [median(sides[side], "rows_per_s") or 0.0 for side in names]
    largest = max(rates)
    target = _target(name, sides)
    reach = 0.0
    places = range(len(names))
    axes.barh(places, rates, height=0.74, color=[COLORS[side] for side in names])
    for place, side, rate in zip(places, names, rates, strict=True):
        low, high = (edge(sample.rows_per_s for sample in sides[side]) for edge in (min, max))
        axes.plot([low, high], [place, place], color=INK, linewidth=0.8, solid_capstyle="butt")
        end = max(rate, high)
        if side == NATIVE and target is not None:
            axes.plot(
                [target, target], [place - 0.47, place + 0.47], color=TARGET, linewidth=2.2, solid_capstyle="butt"
            )
            if target < end + largest * LABEL_SHARE:  # It would stand in the figure.
                end = max(end, target)
        weight = "bold" if side == NATIVE else "normal"
        reach = max(reach, end)
        axes.text(end + largest * 0.02, place, thousands(rate), va="center", fontsize=8, weight=weight)
    operation = BY_NAME[name]
    axes.set_title(f"{operation.title}", loc="left", fontsize=9.5, weight="bold", color=INK, pad=5)
    axes.set_title(f"thousand {operation.unit}", loc="right", fontsize=7.5, color=PALE, pad=5)
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set_ylim(most - 0.45, -0.55)
    axes.set_xlim(0, max(reach + largest * LABEL_SHARE, (target or 0) * 1.05))
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(PALE)
    axes.spines["left"].set_bounds(-0.5, len(names) - 0.5)  # Not down to where a fuller panel would have bars.


def _target(name: str, sides: Mapping[str, Sequence[Sample]]) -> float | None:
    """Return the rate that the most demanding target of an operation asks of prefixdb native, if there is one."""
    wanted = [
        goal.at_least * (median(sides[goal.against_side], "rows_per_s") or 0.0)
        for goal in GOALS
        if goal.operation == name == goal.against_operation and goal.against_side in sides
    ]
    return max(wanted, default=None)
