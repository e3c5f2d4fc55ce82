"""Whether a runtime takes a model there: precision, operators, shapes. Pure, by documents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from saccade.estimate.graph import QUANTIZING, GraphFacts
from saccade.targets.target import Precision, RuntimeRules, Target

# "partly": it runs, but some of it not where it should.
Verdict = Literal["legal", "partly", "illegal"]
SHOWN = 4


@dataclass(frozen=True)
class Legality:
    """Whether a runtime takes a model.

    Attributes:
        verdict: in one word.
        reasons: one sentence each; for a legal one, what to know.
        refused: ONNX operator → how many nodes of it the runtime does not take.
        share: part of the arithmetic that runs where it should, 0-1.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    refused: tuple[tuple[str, int], ...] = ()
    share: float = 1.0


def legality(
    graph: GraphFacts, target: Target, runtime: str, rules: RuntimeRules, precision: Precision
) -> Legality:
    """Judge a model on a runtime of a target, as far as documents tell."""
    there = target.runtimes[runtime]
    if precision not in there.precisions:
        why = target.refused_precisions.get(precision, "")
        reason = why or f"{rules.title} has no {precision} on {target.name}"
        return Legality("illegal", (reason,), share=0.0)
    notes = [there.note] if there.note else []
    if graph.dynamic and rules.dynamic_shapes.startswith("no"):
        notes.append(
            f"{rules.title} takes fixed shapes only; the model is fixed at "
            f"{graph.input_hw[0]}x{graph.input_hw[1]}"
        )
    refused = refused_operators(graph, rules)
    if not refused:
        return Legality("legal", tuple(notes))
    named = _named(refused)
    if not rules.host_takes_the_rest:
        reason = f"{rules.title} does not take {named}; export the model without them"
        return Legality("illegal", (reason, *notes), refused, 0.0)
    share = _share_before(graph, {kind for kind, _ in refused})
    reason = (
        f"operators outside the list of {rules.title}: {named}; {share:.0%} of the arithmetic "
        "comes before them and runs there, the rest on the host"
    )
    verdict: Verdict = "partly" if share > 0 else "illegal"
    return Legality(verdict, (reason, *notes), refused, share)


def refused_operators(graph: GraphFacts, rules: RuntimeRules) -> tuple[tuple[str, int], ...]:
    """Operators that the runtime does not take, with their number, most frequent first."""
    counts = Counter(op.kind for op in graph.operators if op.kind not in QUANTIZING)
    return tuple((kind, count) for kind, count in counts.most_common() if not _takes(rules, kind))


def _takes(rules: RuntimeRules, kind: str) -> bool:
    return kind not in rules.refuses and (not rules.only or kind in rules.only)


def _share_before(graph: GraphFacts, outside: set[str]) -> float:
    """Part of the arithmetic that depends on no operator ``outside`` the list."""
    tainted: set[str] = set()
    before = 0.0
    for op in graph.operators:
        if op.kind in outside or tainted.intersection(op.inputs):
            tainted.update(op.outputs)
        else:
            before += op.flops
    return before / graph.flops if graph.flops else 0.0


def _named(refused: tuple[tuple[str, int], ...]) -> str:
    parts = [f"{kind} ({count})" if count > 1 else kind for kind, count in refused[:SHOWN]]
    more = len(refused) - SHOWN
    return ", ".join(parts) + (f" and {more} more kinds" if more > 0 else "")
