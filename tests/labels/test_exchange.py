"""Import and export: what goes out comes back, what others write is read, what is bad is named."""

import gzip
import json

import pandas as pd
import pytest
from tokenizers import ByteLevelBPETokenizer

from rlhf_lib.errors import KitError
from rlhf_lib.labels import LabelSession, LabelStore, for_fitting, import_labels, to_dataset, write_labels
from rlhf_lib.labels.exporting import label_rows, original_rows, pair_rows
from rlhf_lib.labels.frames import disagreements
from rlhf_lib.labels.importing import PAD_ID

NOT_KEPT = ["event_id", "queue"]  # the number of an event and the queue's name are the new store's


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "labels.sqlite")


@pytest.fixture
def other(tmp_path):
    return LabelStore(tmp_path / "other.sqlite")


@pytest.fixture
def labels(store, comparisons):
    """Labels of every kind, by two labelers, with overlap, repeats, gold items, undos and odd text."""
    gold = [{"query": "Gold \x00 <b>é</b>\n", "samples": list("wxyz"), "gold": 0, "meta": {"k": [1, None]}}]
    store.add_items("q", comparisons(6, round=3, policy="step-9"), overlap_share=0.5, repeats=0.5, gold=gold)
    one = {"query": "Source.", "samples": ["A summary."], "reference": "Ref", "source": "src"}
    store.add_items("q", [{**one, "gold": "false"}], kind="accuracy")
    store.add_items("q", [one], kind="description")
    store.add_items("q", [one], kind="correction")
    store.add_items(
        "q", [{"query": "P", "samples": ["left", "right"], "gold": 1}], kind="preference", overlap_share=1.0
    )
    answers = {
        "best_of_4": lambda s: s.answer(1),
        "accuracy": lambda s: s.answer_accuracy("cant_tell"),
        "description": lambda s: s.describe(["untrue", "copied"], "It says too much."),
        "correction": lambda s: s.correct("A better summary."),
        "preference": lambda s: s.answer_preference(0),
    }
    for name in ("ana", "bob"):
        session = LabelSession(store, name, "q")
        while (item := session.current()) is not None:
            answers[item.kind](session)
        session.undo()
        item = session.current()
        answers[item.kind](session)
    return store.labels_frame()


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left.drop(columns=NOT_KEPT), right.drop(columns=NOT_KEPT), check_dtype=False)


def test_jsonl_brings_back_every_label_of_every_kind(labels, other, tmp_path):
    assert set(labels["kind"]) == {"best_of_4", "accuracy", "description", "correction", "preference"}
    n = write_labels(labels, tmp_path / "l.jsonl")
    assert import_labels(other, tmp_path / "l.jsonl", "again").added == n == len(labels)
    same(other.labels_frame(), labels)
    with other.read() as conn:
        assert disagreements(conn) == []
    with pytest.raises(KitError, match=r"l.jsonl, row 1, field 'id': '.+' is already in the store"):
        import_labels(other, tmp_path / "l.jsonl", "again")
    same(other.labels_frame(), labels)


def test_a_dataset_brings_back_every_label_of_every_kind(labels, other):
    import_labels(other, to_dataset(labels), "again")
    same(other.labels_frame(), labels)


def test_pairs_are_trl_rows(labels, other, tmp_path):
    pairs = pair_rows(labels)
    four, two = labels[labels["kind"] == "best_of_4"], labels[labels["kind"] == "preference"]
    assert len(pairs) == 3 * len(four) + len(two) and {tuple(pair) for pair in pairs} == {
        ("prompt", "chosen", "rejected")
    }
    first = four.iloc[0]
    assert {pair["chosen"] for pair in pairs[:3]} == {first[f"sample{first['best']}"]}
    assert sorted(pair["rejected"] for pair in pairs[:3]) == sorted(
        first[f"sample{i}"] for i in range(4) if i != first["best"]
    )
    write_labels(labels, tmp_path / "p.jsonl", "pairs")
    import_labels(other, tmp_path / "p.jsonl", "pairs")
    frame = other.labels_frame()
    assert frame["kind"].unique().tolist() == ["preference"] and (frame["best"] == 0).all()
    assert pair_rows(frame) == pairs
    assert to_dataset(labels, "pairs").to_list() == pairs


def test_the_original_layout_in_text(labels, other, tmp_path):
    n = write_labels(labels, tmp_path / "o.json", "original")
    raw = json.loads((tmp_path / "o.json").read_text())
    assert list(raw[0]) == ["query", "sample0", "sample1", "sample2", "sample3", "best"]
    import_labels(other, tmp_path / "o.json", "o", labeler="scale")
    frame = other.labels_frame()
    assert len(frame) == n and original_rows(frame) == raw
    assert frame["labeler"].unique().tolist() == ["scale"] and frame["order"].isna().all()


def test_the_original_layout_in_token_ids(real, store, other, tmp_path):
    """With GPT-2's own tokenizer, padded as the released files are (reference 1.4)."""
    bpe = real / "gpt2_bpe"
    tokenizer = ByteLevelBPETokenizer(str(bpe / "vocab.json"), str(bpe / "merges.txt"))
    encode = lambda text: tokenizer.encode(text).ids  # noqa: E731
    rows = [{"query": "He said so .", "samples": ["one .", "two words .", "Émile", ""], "round": 1}]
    store.add_items("q", rows)
    session = LabelSession(store, "ana", "q")
    session.current(), session.answer(2)
    frame = store.labels_frame()
    write_labels(frame, tmp_path / "o.json", "original", encode, query_length=64, response_length=24)
    row = json.loads((tmp_path / "o.json").read_text())[0]
    assert len(row["query"]) == 64 and {len(row[f"sample{i}"]) for i in range(4)} == {24}
    assert row["query"] == [*encode("He said so ."), *[PAD_ID] * 60]
    import_labels(other, tmp_path / "o.json", "q", decode=tokenizer.decode)
    again = other.labels_frame()
    assert original_rows(again) == original_rows(frame)
    with pytest.raises(KitError, match=r"o.json, row 1, field 'sample0' is a list of token ids; pass decode"):
        import_labels(other, tmp_path / "o.json", "q")
    with pytest.raises(KitError, match="query is 4 tokens long, more than the 3"):
        original_rows(frame, encode, query_length=3)


def test_real_four_way_rows_are_read(real, store):
    report = import_labels(store, real / "fourway_derived_summeval.jsonl.gz", "summeval")
    with gzip.open(real / "fourway_derived_summeval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    frame = store.labels_frame()
    assert report.added == len(rows) == 521 and frame["best"].tolist() == [row["best"] for row in rows]
    assert frame["sample3"].tolist() == [row["sample3"] for row in rows]
    assert frame["meta"][0]["systems"] == rows[0]["systems"]


def test_for_fitting_drops_duplicates_equal_samples_and_repeats(store):
    row = {"query": "q", "sample0": "a", "sample1": "b", "sample2": "c", "sample3": "d", "best": 1}
    equal = {**row, **{f"sample{i}": "a" for i in range(4)}}
    second = {**row, "best": 2}  # the same labeler saw it twice and chose otherwise: both stay
    repeat = {**row, "query": "r", "id": "x", "labeler": "ana"}
    rows = [row, equal, row, second, {**row, "labeler": "bob"}, repeat, {**repeat, "is_repeat": True, "best": 3}]
    import_labels(store, rows, "q")
    frame = store.labels_frame()
    fit = for_fitting(frame)
    assert fit[["query", "labeler", "best"]].values.tolist() == [
        ["q", "imported", 1],
        ["q", "imported", 2],
        ["q", "bob", 1],
        ["r", "ana", 1],
    ]
    assert len(for_fitting(frame, drop_duplicates=False)) == 5
    assert len(for_fitting(frame, drop_equal=False)) == 5
    assert len(frame) == 7, "what is stored stays as it is"


GOOD = {"query": "q", "sample0": "a", "sample1": "b", "sample2": "c", "sample3": "d", "best": 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "bad.json holds no rows"),
        (b"[]", "bad.json holds no rows"),
        (b"[", "bad.json, row 1 is not JSON"),
        (b"nonsense", "bad.json, row 1 is not JSON"),
        (json.dumps([GOOD])[:-1].encode(), "bad.json, row 2 is not JSON"),
        (json.dumps([GOOD, GOOD])[:-9].encode(), "bad.json, row 2 is not JSON"),
        (json.dumps([GOOD]).encode("utf-16"), "bad.json, row 1 is not JSON"),
        (json.dumps([GOOD]).replace('"a"', '"caf\xe9"').encode("latin-1"), "row 1, field 'sample0' holds bytes that"),
        (json.dumps([GOOD, {**GOOD, "best": 7}]).encode(), "bad.json, row 2, field 'best' must be .* 0 to 3, not 7"),
        (b"[" * 100_000, "bad.json, row 1 is not JSON"),
        (json.dumps([GOOD]).replace(": 1}", ": " + "1" * 9999 + "}").encode(), "bad.json, row 1"),
        (json.dumps([{**GOOD, "meta": {"x": float("inf")}}]).encode(), "row 1, field 'meta'.x holds inf"),
        (
            json.dumps([{"prompt": "p", "chosen": [{"role": "user"}], "rejected": "x"}]).encode(),
            "row 1, field 'chosen'",
        ),
        (json.dumps([{**GOOD, "id": 5}, {**GOOD, "id": "5"}]).encode(), "row 2, field 'id': '5' is a duplicate"),
        (
            json.dumps([{**GOOD, "id": 5}, {**GOOD, "id": 5, "query": "r"}]).encode(),
            "row 2, field 'id': '5' is row 1's",
        ),
        (json.dumps([{**GOOD, "query": [1, 50258]}]).encode(), "row 1, field 'query' must hold token ids .* not 50258"),
    ],
)
def test_a_bad_file_is_named_and_changes_nothing(store, tmp_path, content, sentence):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(KitError, match=sentence):
        import_labels(store, tmp_path / "bad.json", "q")
    assert store.count_items("q") == 0 and store.events() == []


def test_good_rows_are_kept_only_if_asked_for(store, tmp_path):
    rows = [GOOD, {**GOOD, "best": 7}, {**GOOD, "query": "r"}, {**GOOD, "sample2": None}]
    (tmp_path / "rows.json").write_text(json.dumps(rows)[:-1])
    with pytest.raises(KitError, match=r"row 2, field 'best'.* 2 more rows were refused too. Nothing was imported"):
        import_labels(store, tmp_path / "rows.json", "q")
    assert store.count_items("q") == 0
    report = import_labels(store, tmp_path / "rows.json", "q", keep_good=True)
    assert report.added == 2 and store.labels_frame("q")["query"].tolist() == ["q", "r"]
    assert [sentence[:16] for sentence in report.refused] == [
        "rows.json, row 2",
        "rows.json, row 4",
        "rows.json, row 5",
    ]
    with pytest.raises(KitError, match="row 1, field 'best'"):
        import_labels(store, [{**GOOD, "best": 7}], "q", keep_good=True)  # none is good


def test_a_file_that_is_not_there_or_no_file(store, tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(KitError, match="Cannot read"):
            import_labels(store, path, "q")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"query": 1}' * 99)[:-12])
    with pytest.raises(KitError, match="Cannot read"):
        import_labels(store, tmp_path / "cut.jsonl.gz", "q")


def test_export_refuses_what_it_cannot_do_and_keeps_the_old_file(labels, tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text("old")
    for call, sentence in (
        (lambda: write_labels(labels, path, "csv"), "Unknown form"),
        (lambda: write_labels(labels.iloc[:0], path), "no labels"),
        (lambda: write_labels(labels, path / "below"), "Cannot write"),
        (lambda: to_dataset(labels.iloc[:0]), "no labels"),
    ):
        with pytest.raises(KitError, match=sentence):
            call()
    assert path.read_text() == "old" and list(tmp_path.glob("tmp*")) == []


def test_rows_are_plain_json(labels):
    for row in label_rows(labels):
        assert json.loads(json.dumps(row, allow_nan=False)) == row
