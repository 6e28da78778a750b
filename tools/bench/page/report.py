"""The page in Markdown, from what was measured; and putting it between the markers of a document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.page.operations import BY_NAME, SIDES, Measured, Verdict
from tools.bench.page.samples import Sample, median, spread

PYTHON_PREFIX = "python-"
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the document.

    name: of its markers in the document and of its files; ``text``: Markdown; ``raw``: everything, for JSON.
    """

    name: str
    text: str
    raw: Mapping[str, object]


def page(
    facts: Mapping[str, object], settings: Mapping[str, object], measured: Measured, verdicts: Sequence[Verdict]
) -> str:
    """Return the whole page.

    Args:
        facts: of the machine and the versions; see ``meters.facts``.
        settings: seconds, warm_up, rounds and interrupted.
    """
    return "\n".join(
        [
            *_facts(facts, settings, measured),
            *_verdicts(verdicts),
            *_table("Throughput", "Thousands a second; the median of the rounds", measured, _throughput),
            *_table("Latency", "Of a call, in milliseconds: p50 / p99 / p99.9", measured, _latency),
            *_table("Cost", "The server's processor time for one row, in µs, and its memory in MiB", measured, _cost),
        ]
    )


def publish(document: Path, section: Section) -> None:
    """Put a section between its markers in a document.

    Raises:
        ValueError: the document does not have both markers, once each and in order.
    """
    opening, closing = f"<!-- {section.name}:begin -->", f"<!-- {section.name}:end -->"
    whole = document.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end or closing in after or opening in after:
        raise ValueError(f"{document.name} needs one {opening} and then one {closing}")
    document.write_text(f"{before}{opening}\n\n{section.text.strip()}\n\n{closing}{after}", encoding="utf-8")


def _facts(facts: Mapping[str, object], settings: Mapping[str, object], measured: Measured) -> Iterator[str]:
    yield (
        f"{facts['date']}, commit {facts['commit']}. {facts['processors']} processors ({facts['processor']}) shared by "
        f"servers and load generator, {facts['memory_gib']} GiB, Linux {facts['kernel']}, {facts['file_system']} whose "
        f"fdatasync takes {facts['fdatasync_us']} µs; load before the run {facts['load_before']}. "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s after {settings['warm_up']:g} s."
    )
    yield ""
    yield "; ".join(f"{name} {text}" for name, text in _versions(facts)) + "."
    spreads = sorted(spread(samples) for sides in measured.values() for samples in sides.values() if len(samples) > 1)
    if spreads:
        yield (
            f"Rounds of the same thing lie {spreads[len(spreads) // 2]:.0%} apart in the median case, "
            f"{spreads[-1]:.0%} in the worst."
        )
    if settings.get("interrupted"):
        yield ""
        yield "**The run was interrupted; what is here is not all of it.**"
    yield ""


def _versions(facts: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    versions = facts["versions"]
    if isinstance(versions, Mapping):
        yield from versions.items()


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[str]:
    if not verdicts:
        return
    yield "### Targets of the native front"
    yield ""
    yield "| rows a second | at least | reached | rounds | |"
    yield "|---|---:|---:|---|---|"
    for verdict in verdicts:
        reached = verdict.reached
        yield (
            f"| {verdict.goal.text} | {verdict.goal.at_least:g} | {reached.middle:.2f} | "
            f"{reached.low:.2f} to {reached.high:.2f} | {'reached' if verdict.met else '**missed**'} |"
        )
    yield ""


def _table(title: str, subtitle: str, measured: Measured, cell: Callable[[Sequence[Sample]], str]) -> Iterator[str]:
    """Yield two tables: what load generators saw, and what Python programs did."""
    for python in (False, True):
        names = [name for name in measured if name.startswith(PYTHON_PREFIX) == python and measured[name]]
        sides = [side for side in SIDES if any(side in measured[name] for name in names)]
        if not names:
            continue
        yield f"### {title}{', from Python' if python else ''}"
        yield ""
        yield f"{subtitle}."
        yield ""
        yield "| | " + " | ".join(sides) + " |"
        yield "|---|" + "---:|" * len(sides)
        for name in names:
            label = BY_NAME[name].title.removeprefix("Python, ")
            cells = [cell(found) if (found := measured[name].get(side)) else NOTHING for side in sides]
            yield f"| {label} | " + " | ".join(cells) + " |"
        yield ""


def _throughput(samples: Sequence[Sample]) -> str:
    return thousands(median(samples, "rows_per_s") or 0.0)


def _latency(samples: Sequence[Sample]) -> str:
    found = [median(samples, field) for field in ("p50_ms", "p99_ms", "p999_ms")]
    return NOTHING if None in found else " / ".join(three_digits(value) for value in found if value is not None)


def _cost(samples: Sequence[Sample]) -> str:
    cpu_us, memory_mib = median(samples, "cpu_us_per_row"), median(samples, "memory_mib")
    return f"{three_digits(cpu_us or 0.0)} · {memory_mib or 0.0:,.0f}"


def thousands(rate: float) -> str:
    """Return a rate in thousands with about three digits."""
    return three_digits(rate / 1e3)


def three_digits(value: float) -> str:
    """Return a number with about three digits: 0.123, 1.23, 12.3, 1,234."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"
