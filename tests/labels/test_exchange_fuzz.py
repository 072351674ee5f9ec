"""Malformed rows and files made by hypothesis: each is refused with file, row and field, and nothing else happens."""

import json
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelStore, import_labels
from rlhf_lib.labels.schema import events, items, slots

FOUR = ("sample0", "sample1", "sample2", "sample3")
MARK = "put the bad byte here"  # ASCII, so that it is found again in the file's bytes

texts = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def fits(low: int, high: int):
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


no_text = json_values.filter(lambda value: not isinstance(value, str) and value != [])
bad_ids = st.lists(st.integers(0, 50256), max_size=3).flatmap(
    lambda ids: st.sampled_from([-1, 50257, 50258, 50260, 1.0, None, "7", True, 2**40]).map(lambda bad: [*ids, bad])
)
BAD_VALUES = {
    "query": no_text | bad_ids,
    **{name: no_text | bad_ids for name in FOUR},
    "best": json_values.filter(lambda value: not fits(0, 3)(value)) | st.sampled_from([7, -1, 4, 1.0, True, "2", None]),
    "order": json_values.filter(lambda value: value is not None) | st.sampled_from([[0, 1, 2], [0, 1, 2, 2], "0123"]),
    "seconds": json_values.filter(lambda value: value is not None and not is_number(value)),
    "kind": json_values.filter(bool),
    "labeler": json_values.filter(
        lambda v: v is not None and not (isinstance(v, str) and v.strip() and "\x00" not in v)
    ),
    "at": st.sampled_from(["yesterday", "", True, [], {}, float("nan"), float("inf"), -1, 1e30, "2026-13-01"]),
    "round": json_values.filter(lambda value: value is not None and not fits(0, 2**31 - 1)(value)),
    "gold": json_values.filter(lambda v: v is not None and not fits(0, 3)(v) and v not in ("0", "1", "2", "3")),
    "meta": st.sampled_from([1, "x", [1], True, {"a": float("nan")}, {"a": [{"b": float("-inf")}]}]),
    "is_repeat": json_values.filter(lambda value: value is not None and not isinstance(value, bool)),
    "reference": json_values.filter(lambda value: value is not None and not isinstance(value, str)),
}


@st.composite
def good_rows(draw, least: int = 1):
    row = st.fixed_dictionaries(
        {"query": texts, **dict.fromkeys(FOUR, texts), "best": st.integers(0, 3)},
        optional={
            "order": st.permutations(range(4)),
            "seconds": st.floats(0, 1e6),
            "labeler": st.sampled_from(["ana", "bob"]),
            "round": st.integers(0, 9),
            "meta": st.dictionaries(texts, texts, max_size=2),
        },
    )
    return draw(st.lists(row, min_size=least, max_size=4))


@st.composite
def bad_row(draw, row: dict):
    """(the row damaged, the field to be named; None where the row as a whole is wrong)."""
    how = draw(st.sampled_from(["value", "value", "value", "missing", "no object"]))
    if how == "no object":
        return draw(json_values.filter(lambda value: not isinstance(value, dict))), None
    if how == "missing":
        name = draw(st.sampled_from(["query", *FOUR, "best"]))
        return {key: value for key, value in row.items() if key != name}, name
    name = draw(st.sampled_from(sorted(BAD_VALUES)))
    return {**row, name: draw(BAD_VALUES[name])}, name


def written(rows: list, lines: bool) -> bytes:
    return ("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)).encode()


@st.composite
def files_with_bad_rows(draw):
    """(bytes, {row: field}, number of rows) of a file in which some rows are wrong, or say an id again."""
    rows, wrong = draw(good_rows()), {}
    for number in draw(st.sets(st.integers(1, len(rows)), min_size=1)):
        rows[number - 1], wrong[number] = draw(bad_row(rows[number - 1]))
    if draw(st.booleans()) and len(rows) > 1 and len(rows) not in wrong and 1 not in wrong:
        again = draw(st.sampled_from(["the same", "the same id, another comparison"]))
        rows[-1] = {**rows[0], "id": "x", **({"query": rows[0]["query"] + "!"} if again != "the same" else {})}
        rows[0] = {**rows[0], "id": "x"}
        wrong[len(rows)] = "id"
    lines = draw(st.booleans()) and not isinstance(rows[0], list)  # lines that begin with a list read as a list
    return written(rows, lines), wrong, len(rows)


@st.composite
def damaged_files(draw):
    """(bytes, the row to be named, the field or None) of a file that is cut off or in another encoding."""
    rows, lines = draw(good_rows()), draw(st.booleans())
    how = draw(st.sampled_from(["cut", "one byte", "utf-16", "noise"]))
    if how == "cut":
        raw = written(rows, lines)
        start = raw.rindex(b"\n") + 2 if lines and len(rows) > 1 else 1  # a cut between two lines leaves good lines
        return raw[: draw(st.integers(start, len(raw) - 1))], None, None
    if how == "one byte":
        number, name = draw(st.integers(1, len(rows))), draw(st.sampled_from(["query", *FOUR]))
        rows[number - 1] = {**rows[number - 1], name: MARK}
        bad = draw(st.sampled_from([b"caf\xe9", b"\xff", b"\x80", b"\xc3", b"\xed\xa0\x80"]))
        return written(rows, lines).replace(MARK.encode(), bad), number, name
    if how == "utf-16":
        return written(rows, lines).decode().encode(draw(st.sampled_from(["utf-16", "utf-16-be", "utf-32"]))), 1, None
    return b"%" + draw(st.binary(max_size=60)), 1, None


def contents(store: LabelStore) -> tuple[int, ...]:
    with store.read() as conn:
        return tuple(conn.scalar(select(func.count()).select_from(table)) for table in (items, slots, events))


def name_said(sentence: str, number: int | None, field: str | None) -> bool:
    """Whether a sentence names file, row and field. The row may be unknown to the test: then any is good."""
    row = f"rows.json, row {number}" if number is not None else "rows.json, row "
    return row in sentence and (field is None or f"field '{field}'" in sentence)


def fuzzed(n: int):
    return settings(max_examples=n, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("n", [pytest.param(6_000, marks=pytest.mark.soak), 600])
def test_bad_rows_are_refused_by_name_and_good_ones_kept_only_if_asked_for(tmp_path, n, record_property):
    store, path, seen = LabelStore(tmp_path / "labels.sqlite"), tmp_path / "rows.json", [0]

    @fuzzed(n)
    @given(files_with_bad_rows())
    @example((b"[7]", {1: None}, 1))
    def check(made):
        raw, wrong, rows = made
        path.write_bytes(raw)
        before = contents(store)
        with pytest.raises(KitError) as caught:
            import_labels(store, path, "q")
        assert any(name_said(str(caught.value), number, field) for number, field in wrong.items()), caught.value
        assert contents(store) == before
        if len(wrong) < rows:
            queue = f"q{seen[0]}"
            raw_ids = path.read_bytes().replace(b'"id": "x"', f'"id": "{queue}!"'.encode())
            path.write_bytes(raw_ids)
            report = import_labels(store, path, queue, keep_good=True)
            assert report.added == rows - len(wrong) == store.count_items(queue)
            for number, field in wrong.items():
                assert any(name_said(sentence, number, field) for sentence in report.refused), report.refused
            assert len(report.refused) == len(wrong)
        seen[0] += len(wrong)

    check()
    assert seen[0] >= n
    record_property("files", n)
    record_property("malformed rows", seen[0])


@pytest.mark.parametrize("n", [pytest.param(4_000, marks=pytest.mark.soak), 400])
def test_damaged_files_are_refused_by_name(tmp_path, n, record_property):
    store, path, seen = LabelStore(tmp_path / "labels.sqlite"), tmp_path / "rows.json", [0]

    @fuzzed(n)
    @given(damaged_files())
    def check(made):
        raw, number, field = made
        path.write_bytes(raw)
        with pytest.raises(KitError) as caught:
            import_labels(store, path, "q")
        assert name_said(str(caught.value), number, field), caught.value
        assert contents(store) == (0, 0, 0)
        seen[0] += 1

    check()
    record_property("malformed files", seen[0])


def test_good_rows_are_never_refused(tmp_path):
    store, path, runs = LabelStore(tmp_path / "labels.sqlite"), tmp_path / "rows.json", [0]

    @fuzzed(50)
    @given(good_rows(), st.booleans())
    def check(rows, lines):
        runs[0] += 1
        path.write_bytes(written(rows, lines))
        assert import_labels(store, path, f"q{runs[0]}").added == len(rows)
        frame = store.labels_frame(f"q{runs[0]}")
        assert frame[["query", *FOUR, "best"]].values.tolist() == [
            [row[k] for k in ("query", *FOUR, "best")] for row in rows
        ]

    check()
