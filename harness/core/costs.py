"""What a tuned model costs and saves. Knows measured usage and stated prices; guesses neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.usage import Usage

MONTHS = 12
"""Training is spread over so many months where a cost a month is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What one request takes, on average. `cost_usd` None: unknown; `source` tells its origin."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    latency_p95_s: float | None = None
    cost_usd: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostView:
    """Costs beside each other. `fixed_usd_per_month` is hosting and a twelfth of the training;
    `break_even_per_month` the requests a month that pay for it; `payback_months` how long the
    training takes to pay at the stated volume. `unknown` says what is missing, and where to say it.
    """

    prompt: Bill | None = None
    tuned: Bill | None = None
    saving_usd: float | None = None
    fixed_usd_per_month: float | None = None
    break_even_per_month: float | None = None
    payback_months: float | None = None
    never_pays: bool = False
    unknown: tuple[str, ...] = ()


def number(facts: Mapping[str, object], key: str) -> float | None:
    """Return a stated number, or None."""
    value = facts.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]


def bill(
    usage: Usage | None, facts: Mapping[str, object], *, prefix: str = "", is_inside: bool = False
) -> Bill | None:
    """Return what a request takes: measured dollars, else tokens at the stated prices
    (`usd_per_million_in`, `usd_per_million_out`, with `prefix`); nothing on one's own machine,
    whose hosting is told apart.
    """
    if usage is None:
        return None
    cost, source = None, ""
    if usage.cost_usd is not None and usage.replies:
        cost, source = usage.cost_usd / usage.replies, "measured"
    else:
        prices = [number(facts, f"{prefix}usd_per_million_{way}") for way in ("in", "out")]
        tokens = [usage.input_tokens, usage.output_tokens]
        if None not in prices and None not in tokens:
            pairs = zip(prices, tokens, strict=True)
            cost = sum(p * t for p, t in pairs if p is not None and t is not None) / 1e6
            source = f"measured tokens at the stated {prefix}usd_per_million_in and _out"
        elif is_inside:
            cost, source = 0.0, "it answers on this machine; hosting is told apart"
    return Bill(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        latency_s=usage.latency_s,
        latency_p95_s=usage.latency_p95_s,
        cost_usd=cost,
        source=source,
    )


def fixed_a_month(facts: Mapping[str, object]) -> float | None:
    """Return hosting and a twelfth of the training a month; None where either is not stated."""
    hosting, training = number(facts, "hosting_usd_per_month"), number(facts, "training_cost_usd")
    return None if hosting is None or training is None else hosting + training / MONTHS


def cost_view(
    prompt: Usage | None,
    tuned: Usage | None,
    facts: Mapping[str, object],
    *,
    is_tuned_inside: bool = False,
) -> CostView:
    """Return what is known of costs and savings. Whatever is unknown stays so, and is named."""
    before = bill(prompt, facts)
    after = bill(tuned, facts, prefix="tuned_", is_inside=is_tuned_inside)
    saving = None
    if before and after and before.cost_usd is not None and after.cost_usd is not None:
        saving = before.cost_usd - after.cost_usd
    fixed, volume = fixed_a_month(facts), number(facts, "volume_per_month")
    never = saving is not None and saving <= 0
    break_even = payback = None
    if saving is not None and saving > 0 and fixed is not None:
        break_even = fixed / saving
        if volume is not None:
            hosting, training = (
                number(facts, key) or 0.0 for key in ("hosting_usd_per_month", "training_cost_usd")
            )
            surplus = volume * saving - hosting
            payback = training / surplus if surplus > 0 else None
            never = surplus <= 0
    return CostView(
        prompt=before,
        tuned=after,
        saving_usd=saving,
        fixed_usd_per_month=fixed,
        break_even_per_month=break_even,
        payback_months=payback,
        never_pays=never,
        unknown=tuple(_unknown(before, after, facts)),
    )


def _unknown(before: Bill | None, after: Bill | None, facts: Mapping[str, object]) -> list[str]:
    gaps = []
    if before is None:
        gaps.append("what a request with the best prompt takes: no such run is recorded")
    elif before.cost_usd is None:
        gaps.append("what a request with the best prompt costs: state usd_per_million_in and _out")
    if after is None:
        gaps.append("what a request of a tuned model takes: none was run")
    elif after.cost_usd is None:
        gaps.append("what a tuned request costs: state tuned_usd_per_million_in and _out")
    stated = {
        "training_cost_usd": "what training costs",
        "hosting_usd_per_month": "what hosting costs",
        "volume_per_month": "how many requests a month there are",
    }
    return gaps + [
        f"{what}: state {key}" for key, what in stated.items() if number(facts, key) is None
    ]


def cost_lines(view: CostView) -> list[str]:
    """Return what is known, one sentence a line."""
    lines = []
    if view.prompt is not None:
        lines.append(_takes("a request with the best prompt", view.prompt))
    if view.tuned is not None:
        lines.append(_takes("a request of the tuned model", view.tuned))
    if view.saving_usd is not None:
        way = "saves" if view.saving_usd > 0 else "costs more by"
        lines.append(f"tuning {way} {dollars(abs(view.saving_usd))} a request")
    if view.break_even_per_month is not None:
        lines.append(
            f"break-even at about {view.break_even_per_month:,.0f} requests a month (hosting and "
            f"a twelfth of the training: {dollars(view.fixed_usd_per_month or 0)} a month)"
        )
    if view.never_pays:
        lines.append("at these costs and this volume, tuning does not pay for itself by tokens")
    elif view.payback_months is not None:
        lines.append(f"the training is paid back in {view.payback_months:.1f} months")
    return lines


def _takes(what: str, one: Bill) -> str:
    parts = []
    if one.input_tokens is not None:
        parts.append(f"{one.input_tokens:.0f} tokens in")
    if one.output_tokens is not None:
        parts.append(f"{one.output_tokens:.0f} out")
    if one.latency_s is not None:
        p95 = "" if one.latency_p95_s is None else f", p95 {one.latency_p95_s:.2f} s"
        parts.append(f"{one.latency_s:.2f} s (median{p95})")
    cost = "its cost is unknown"
    if one.cost_usd is None and not parts:
        return f"{what}: its tokens, time and cost are unknown"
    if one.cost_usd is not None:
        cost = f"it costs {dollars(one.cost_usd)} ({one.source})"
    return f"{what} takes {', '.join(parts)}; {cost}" if parts else f"{what}: {cost}"


def dollars(value: float) -> str:
    """Return `$0.0012`, `$12.50`, `$1,200`."""
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 1 or value == 0 else f"${value:.3g}"
