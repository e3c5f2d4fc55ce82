"""Changes that promised something and that there was no time for. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from saccade.report import quantities as q
from saccade.report.document import changes, records

# How many are named, and counted in the budget that is advised.
NAMED = 3
# Of a longer budget, what goes into changes; the rest is for knobs and the final.
SEARCH_SHARE = 0.6


def untried_text(result: Mapping[str, Any]) -> str:
    """Which they are and what budget would reach the first of them; empty where there are none."""
    found = records(result.get("untried"))
    if not found or result.get("interrupted"):
        return ""
    named = [_named(row) for row in found[:NAMED]]
    more = f", and {len(found) - len(named)} more" if len(found) > len(named) else ""
    budget = q.number(result.get("budget_s"))
    over = f"The budget of {q.duration(budget)}" if budget else "The budget"
    return (
        f"{over} was over before {', '.join(named)}{more}. The same command with "
        f"--budget {_advised_minutes(result)}m goes on from here."
    )


def out_of_time(result: Mapping[str, Any]) -> str:
    """A clause that says so where the budget left no time to try anything; else empty."""
    tried = any(change.verdict != "inconclusive" for change in changes(result))
    if tried or not untried_text(result):
        return ""
    budget = q.duration(result.get("budget_s"))
    return f"nothing was tried, for the budget of {budget} was over before the first change"


def _named(row: Mapping[str, Any]) -> str:
    gain = q.number(row.get("predicted_gain"))
    promise = f" (promises {q.ratio(gain)})" if gain else ""
    return f"{row.get('change')}{promise}"


def _advised_minutes(result: Mapping[str, Any]) -> int:
    """Whole minutes: what this run took, and the first changes on top."""
    rows = records(result.get("untried"))[:NAMED]
    more_s = sum(q.number(row.get("cost_s")) or 0.0 for row in rows) / SEARCH_SHARE
    spent_s = max(q.number(result.get(name)) or 0.0 for name in ("wall_s", "budget_s"))
    return math.ceil((spent_s + more_s) / 60)
