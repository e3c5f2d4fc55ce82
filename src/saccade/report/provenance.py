"""What a result came from, as a report says it: machine, data, settings, commands, length."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from saccade.report import quantities as q
from saccade.report.document import changes, mapping, texts


def environment_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The machine and its software as label and text."""
    rows = []
    for key, value in mapping(result.get("environment")).items():
        text = _plain_value(value)
        if text:
            rows.append(q.evidence(key, value) if q.number(value) is not None else (key, text))
    noise = q.number(mapping(result.get("noise")).get("percent"))
    if noise is not None:
        rows.append(("smallest difference it resolves", f"{q.digits(noise, 2)} %"))
    return [(label.replace("_", " "), text) for label, text in rows]


def roofline_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """This machine's measured peaks."""
    roofline = mapping(result.get("roofline"))
    rows = [
        (f"{name} matrix products", f"{q.digits(peak)} GFLOP/s")
        for name, value in mapping(roofline.get("peak_gflops")).items()
        if (peak := q.number(value)) is not None
    ]
    bandwidth = q.number(roofline.get("bandwidth_gbs"))
    if bandwidth is not None:
        rows.append(("memory bandwidth", f"{q.digits(bandwidth)} GB/s"))
    return rows


def data_splits(result: Mapping[str, Any]) -> str:
    """How many images served which purpose."""
    splits = mapping(mapping(result.get("guard")).get("data"))
    shown = [f"{_plain_value(count)} for {name}" for name, count in splits.items() if count]
    return f"Disjoint images: {', '.join(shown)}." if shown else ""


def commands(result: Mapping[str, Any]) -> list[str]:
    """Shell commands that repeat the run and use its result."""
    bundle, folder = str(result.get("bundle") or ""), str(result.get("folder") or "RUN_FOLDER")
    repeat = f"saccade optimize {shlex.quote(folder + '/spec.yaml')} --out repeated"
    if result.get("measurements"):
        given = [str(result.get(name) or "KIT") for name in ("kit", "measurements")]
        repeat += " --kit {} --measurements {}".format(*map(shlex.quote, given))
    if not bundle:
        return [repeat]
    video = str(mapping(result.get("spec")).get("video") or "video.mp4")
    source = f"--source {shlex.quote(video)}"
    return [repeat, f"saccade run {shlex.quote(bundle)} {source} --save annotated.mp4"]


def spec_text(result: Mapping[str, Any]) -> str:
    """The spec as YAML, empty where there is none."""
    return _yaml(result.get("spec"))


def config_text(result: Mapping[str, Any]) -> str:
    """The best configuration as YAML, without the class names that would fill pages."""
    config = dict(mapping(mapping(result.get("best")).get("config")))
    described = dict(mapping(config.get("description")))
    if described.pop("class_names", None) is not None:
        config["description"] = described
    return _yaml(config)


def run_length(result: Mapping[str, Any]) -> str:
    """How long the run took, of what budget, and how many changes it tried."""
    parts = []
    tried = len(changes(result))
    if tried:
        parts.append(f"{tried} change{'s' if tried != 1 else ''} tried")
    if q.number(result.get("wall_s")) is not None:
        parts.append(f"in {q.duration(result['wall_s'])}")
    if q.number(result.get("budget_s")) is not None:
        parts.append(f"(budget {q.duration(result['budget_s'])})")
    return " ".join(parts)


def _plain_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain_value(v)}" for key, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(texts(value))
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _yaml(value: Any) -> str:
    if not mapping(value):
        return ""
    # Through JSON first: only plain types, so that the YAML holds no Python tags.
    plain = json.loads(json.dumps(value, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=96).rstrip()
