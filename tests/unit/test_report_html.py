from __future__ import annotations

import copy
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_result import sample_result

from saccade.errors import InputError, StorageError
from saccade.report.html import render_html, write_html

VOID = {"meta", "link", "br", "hr", "img", "input"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>&{{7*7}}</style></title>"


class _Checker(HTMLParser):
    """Collects elements and complains about tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.seen_text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.seen_text.append(data)


def _parse(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def _poison(value: Any) -> Any:
    """The same document with every free text hostile; what steers the report stays."""
    if isinstance(value, dict):
        keep = ("status", "metric", "op", "objective", "verdict")
        return {k: v if k in keep else _poison(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_poison(item) for item in value]
    return ATTACK if isinstance(value, str) else value


def test_page_is_well_formed_and_starts_as_html() -> None:
    page = render_html(sample_result())
    assert page.lstrip().startswith("<!DOCTYPE html>")
    sections = {a["id"] for tag, a in _parse(page).elements if tag == "section"}
    assert {
        "goals", "metrics", "stages", "findings", "changes", "front", "rejected", "accuracy",
        "data", "operators", "trials", "environment", "reproduce", "notes",
    } <= sections  # fmt: skip


def test_page_needs_nothing_from_elsewhere() -> None:
    page = render_html(sample_result())
    checker = _parse(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in checker.elements}
    for tag, attributes in checker.elements:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & attributes.keys(), tag
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


def test_hostile_text_stays_text() -> None:
    page = render_html(_poison(sample_result()))
    checker = _parse(page)
    assert not {"script", "img"} & {tag for tag, _ in checker.elements}
    assert not any(name.startswith("on") for _, a in checker.elements for name in a)
    assert any("<script>alert(1)</script>" in text for text in checker.seen_text)
    assert "{{7*7}}" in page


def test_hostile_keys_stay_text() -> None:
    result = sample_result()
    result["environment"] = {ATTACK: 1, "versions": {ATTACK: ATTACK}}
    result["findings"][0]["evidence"] = {ATTACK: 3.0}
    result["baseline"]["metrics"][ATTACK] = 1.0
    result["goals"][0] |= {"metric": ATTACK, "op": ATTACK, "status": ATTACK}
    result["trials"][0]["verdict"] = ATTACK
    checker = _parse(render_html(result))
    assert not {"script", "img"} & {tag for tag, _ in checker.elements}


def test_every_rejected_change_has_its_reason() -> None:
    page = html.unescape(render_html(sample_result()))
    for rejected in sample_result()["rejected"]:
        assert rejected["reason"] in page
        assert rejected["change"] in page


def test_predictions_stand_beside_what_was_achieved() -> None:
    page = render_html(sample_result())
    row = re.search(r"<tr>(?:(?!</tr>).)*rect letterbox.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert "1.52×" in row[0]
    assert "1.58× (1.55–1.61)" in row[0]


@pytest.mark.parametrize("status", ["met", "not_met", "inconclusive"])
def test_the_outcome_is_in_the_title(status: str) -> None:
    words = {"met": "Goals met", "not_met": "Goals not met", "inconclusive": "Inconclusive"}
    page = render_html(sample_result() | {"status": status})
    assert f"<title>{words[status]}: yolo11n.onnx" in page


@pytest.mark.parametrize("key", sorted(sample_result()))
@pytest.mark.parametrize("instead", ["absent", None, [], {}, "text", 3, [None, 1, "x", [], {}]])
def test_any_part_may_be_missing_or_odd(key: str, instead: Any) -> None:
    result = sample_result()
    if instead == "absent":
        del result[key]
    else:
        result[key] = instead
    _parse(render_html(result))


def test_a_run_interrupted_after_the_baseline() -> None:
    sample = sample_result()
    result = {"status": "inconclusive", "goals": sample["goals"], "wall_s": 31.0}
    result |= {"baseline": sample["baseline"], "best": None}
    result["goals"] = [g | {"value": None, "interval": None} for g in result["goals"]]
    page = render_html(result)
    _parse(page)
    assert "no faster system has passed validation" in page
    assert 'id="rejected"' not in page
    assert 'id="stages"' in page
    assert "None" not in page


def test_an_empty_document_is_a_page() -> None:
    _parse(render_html({}))


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return [at]
    return [at] * bool(at) + [p for k, v in items for p in _paths(v, (*at, k))]


PATHS = _paths(sample_result())
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-(10**30), 10**30),
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.floats()), max_size=3),
    st.just({}),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), ODD), min_size=1, max_size=4))
def test_no_single_odd_value_breaks_the_page(edits: list[tuple[tuple[Any, ...], Any]]) -> None:
    result = copy.deepcopy(sample_result())
    for path, value in edits:
        at: Any = result
        for key in path[:-1]:
            inside = (isinstance(at, dict) and key in at) or (
                isinstance(at, list) and isinstance(key, int) and key < len(at)
            )
            at = at[key] if inside else {}
        if isinstance(at, dict) or (isinstance(at, list) and path[-1] in range(len(at))):
            at[path[-1]] = value
    _parse(render_html(result))


def test_write_html_writes_beside_the_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(sample_result()), encoding="utf-8")
    path = write_html(tmp_path)
    assert path == tmp_path / "report.html"
    shown = {**sample_result(), "folder": str(tmp_path)}
    assert path.read_text(encoding="utf-8") == render_html(shown)
    write_html(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "result.json"]


def test_a_file_name_that_is_not_unicode_can_be_reported(tmp_path: Path) -> None:
    result = sample_result()
    result["data_problems"][0]["examples"] = ["caf\udce9.jpg"]
    (tmp_path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert "caf?.jpg" in write_html(tmp_path).read_text(encoding="utf-8")


def test_write_html_without_a_result_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_html(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_leaves_no_scraps(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(sample_result()), encoding="utf-8")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_html(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "result.json"]
