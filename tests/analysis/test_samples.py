"""Sample rows: written and read back unchanged, bad ones named by file, row and field."""

import gzip
import json

import pandas as pd
import pytest

from rlhf_lib.errors import KitError
from rlhf_lib.samples import FIELDS, facts_of, read_samples, samples_frame, summaries, write_samples

FULL = {
    "task": "cnndm",
    "split": "test",
    "model": "fine-tuned",
    "query_id": "7",
    "query": "A fire.\nIt burned – ü.",
    "reference": "Fire.",
    "response": "A fire. It",
    "response_truncated": "A fire.",
    "penalised": False,
    "temperature": 0.5,
    "seed": 3,
    "starts_with_preamble": True,
    "facts": {"kind": "fire", "deaths": "two"},
}
BARE = {"task": "tldr", "model": "mine", "query": "hi there", "reference": None, "response": ""}


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_rows_come_back_as_they_were(tmp_path, ending):
    frame = samples_frame([FULL, BARE | {"score": 1.5}])
    path = write_samples(frame, tmp_path / "deep" / f"rows.{ending}")
    again = read_samples(path)
    pd.testing.assert_frame_equal(again, frame, check_column_type=False)
    assert list(again.columns[: len(FIELDS)]) == list(FIELDS)
    assert facts_of(again["facts"][0]) == FULL["facts"] and facts_of(again["facts"][1]) is None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_missing_values_are_null_and_summaries_prefer_the_truncated_text():
    frame = samples_frame([FULL, BARE])
    row = frame.iloc[1]
    for field in set(FIELDS) - set(BARE) - {"query_id"} | {"reference"}:
        assert pd.isna(row[field]), field
    assert list(summaries(frame)) == ["A fire.", ""]
    assert row["query_id"] == samples_frame([BARE])["query_id"][0] != frame.iloc[0]["query_id"]


def test_the_same_rows_give_the_same_file(tmp_path):
    for ending in ("jsonl.gz", "parquet"):
        first, second = (write_samples([FULL, BARE], tmp_path / f"{n}.{ending}").read_bytes() for n in "ab")
        assert first == second


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("query", 3, "'query' must be a text, not 3"),
        ("response", None, "has no 'response'"),
        ("penalised", "no", "'penalised' must be true or false"),
        ("starts_with_preamble", 1, "'starts_with_preamble' must be true or false"),
        ("temperature", True, "'temperature' must be a number"),
        ("temperature", "0.7", "'temperature' must be a number"),
        ("seed", 1.5, "'seed' must be a whole number"),
        ("facts", "[1]", "'facts' must be a JSON object"),
        ("facts", "{", "'facts' must be a JSON object"),
        ("reference", ["a"], "'reference' must be a text"),
        ("response_truncated", True, "'response_truncated' must be a text"),
        ("query", "\ud800", "'query' holds half a character"),
    ],
)
def test_a_bad_field_is_named_with_file_and_row(tmp_path, field, value, words):
    lines = [json.dumps(FULL), "", json.dumps(FULL | {field: value})]
    path = written(tmp_path, "bad.jsonl", "\n".join(lines))
    with pytest.raises(KitError) as error:
        read_samples(path)
    assert str(error.value).startswith(f"{path}, row 3") and words in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.jsonl", '{"task": ', "row 1 is not a line of JSON"),
        ("bad.jsonl", b'{"task": "\xff"}', "row 1 is not a line of JSON"),
        ("bad.jsonl", "[1, 2]", "row 1 is not a JSON object"),
        ("bad.jsonl", "[" * 100_000, "row 1 is not a line of JSON"),
        ("empty.jsonl", "\n\n", "no rows"),
        ("cut.jsonl.gz", gzip.compress(json.dumps(FULL).encode(), mtime=0)[:-12], "cannot be read"),
        ("not.jsonl.gz", "plain", "cannot be read"),
        ("not.parquet", "plain", "cannot be read as Parquet"),
        ("samples.csv", "a,b", "is not a file of samples"),
    ],
)
def test_a_bad_file_ends_in_one_sentence(tmp_path, name, text, words):
    with pytest.raises(KitError, match=words):
        read_samples(written(tmp_path, name, text))


def test_no_file_and_no_folder_are_said(tmp_path):
    with pytest.raises(KitError, match="There is no file"):
        read_samples(tmp_path / "none.jsonl")
    written(tmp_path, "file", "")
    with pytest.raises(KitError, match="cannot be written"):
        write_samples([FULL], tmp_path / "file" / "rows.jsonl")


def test_a_bad_row_leaves_the_old_file(tmp_path):
    path = write_samples([FULL], tmp_path / "rows.jsonl")
    before = path.read_bytes()
    with pytest.raises(KitError, match="row 2"):
        write_samples([FULL, {"task": "x"}], path)
    assert path.read_bytes() == before


def test_numbers_of_frames_are_taken(tmp_path):
    frame = pd.DataFrame([FULL, BARE])  # pandas makes floats of seeds beside a null, and objects of booleans
    path = write_samples(frame, tmp_path / "rows.parquet")
    again = read_samples(path)
    assert again["seed"][0] == 3 and again["seed"].isna()[1] and again["starts_with_preamble"][0]
