"""Comparisons to label (samples file or embedded world), and the figures of label quality."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from rlhf_lib.__main__ import main
from rlhf_lib.errors import KitError
from rlhf_lib.labels import comparisons, quality
from rlhf_lib.labels.frames import LABEL_COLUMNS
from rlhf_lib.labels.session import LabelSession
from rlhf_lib.labels.simulated import SimulatedClock, SimulatedLabeler, label_all, on_response, vader_sum
from rlhf_lib.labels.store import LabelStore
from rlhf_lib.plots import labeling as plots


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """40 comparisons, three of four simulated labelers each, most shown twice, half with a known best."""
    store = LabelStore(tmp_path_factory.mktemp("labels") / "labels.sqlite")
    items, _ = comparisons.load(n=40)
    rows = [item | ({"gold": i % 4} if i % 2 else {}) for i, item in enumerate(items)]
    store.add_items("q", rows, overlap_share=1.0, overlap=3, repeats=0.8)
    given = 1
    clocks = {name: SimulatedClock() for name in "abcd"}
    people = {name: SimulatedLabeler(on_response(vader_sum), 2.0, ord(name)) for name in clocks}
    sessions = {name: LabelSession(store, name, "q", clock=clocks[name]) for name in clocks}
    while given:
        given = sum(label_all(sessions[name], people[name], 5, clocks[name]) for name in clocks)
    frame = store.labels_frame("q")
    store.close()
    return frame


def test_every_question_has_its_figure_from_the_stores_own_frame(labels):
    drawn = {
        plots.agreement_by_labeler: quality.agreement,
        plots.gold_by_labeler: quality.gold_agreement,
        plots.repeats_by_labeler: quality.self_agreement,
        plots.positions_by_labeler: quality.position_bias,
        plots.copying_by_labeler: quality.copy_preference,
        plots.drift_by_labeler: quality.drift,
        plots.guessing_signs: quality.guessers,
    }
    for draw, ask in drawn.items():
        reading = ask(labels)
        figure = draw(reading)
        assert isinstance(figure, Figure) and figure.axes[0].get_xlabel()
        ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        if ask is not quality.drift:
            assert [tick.split(" ")[0] for tick in ticks if tick] == list("abcd")
    assert isinstance(plots.seconds_by_labeler(labels), Figure)
    assert {reading.name for reading in quality.panel(labels)} == {
        "agreement", "gold", "self-agreement", "position", "speed", "copying", "drift", "guessers",
    }  # fmt: skip


def test_agreement_counts_what_a_loop_counts(labels):
    rows = labels[~labels["is_repeat"]]
    same = pairs = 0
    for _, group in rows.groupby("comparison_id"):
        best = list(group["best"])
        pairs += len(best) * (len(best) - 1) // 2
        same += sum(best[i] == best[j] for i in range(len(best)) for j in range(i))
    numbers = quality.agreement(labels).numbers
    assert numbers["n_pairs"] == pairs and numbers["agreement"] == pytest.approx(same / pairs)


def test_nothing_to_draw_is_said():
    empty = pd.DataFrame(columns=list(LABEL_COLUMNS)).assign(at=pd.Series(dtype="datetime64[ns, UTC]"))
    for draw, ask in (
        (plots.agreement_by_labeler, quality.agreement),
        (plots.positions_by_labeler, quality.position_bias),
    ):
        with pytest.raises(KitError, match="nothing to draw"):
            draw(ask(empty))
    with pytest.raises(KitError):
        plots.seconds_by_labeler(empty)


def test_world_comparisons_are_reproducible_and_distinct():
    items = comparisons.from_world(20, seed=3)
    assert items == comparisons.from_world(20, seed=3) != comparisons.from_world(20, seed=4)
    assert all(len(set(item["samples"])) == 4 and item["query"] for item in items)


def test_samples_file_is_used_when_it_is_there(tmp_path):
    made = [(i, k) for i in range(6) for k in range(5 if i else 3)]
    rows = [{"query": f"q{i}", "response": f"{k} and more", "response_truncated": f"{i} {k}."} for i, k in made]
    rows = [row | {"task": "sentiment", "model": "zero-shot"} for row in rows]
    rows += [{"task": "sentiment", "model": "fine-tuned", "query": "q9", "response": f"{k}"} for k in range(4)]
    path = tmp_path / "samples.parquet"
    pd.DataFrame(rows).to_parquet(path)
    items, where_from = comparisons.load(path, n=100)
    assert {item["query"] for item in items} == {"q1", "q2", "q3", "q4", "q5"} and "samples.parquet" in where_from
    assert all(item["samples"][0].endswith(".") and item["policy"] == "zero-shot" for item in items)
    assert len(comparisons.load(path, n=2)[0]) == 2
    path.write_bytes(b"PAR1 no")
    with pytest.raises(KitError, match="cannot be read"):
        comparisons.load(path)
    with pytest.raises(KitError, match="four different"):
        comparisons.from_samples(pd.DataFrame(rows[:3]), 5)
    with pytest.raises(KitError, match="column 'response'"):
        comparisons.from_samples(pd.DataFrame({"query": ["q"]}), 5)


def test_samples_for_labelers_are_the_base_models_and_load_as_comparisons(tmp_path, capsys):
    path = tmp_path / "samples.parquet"
    assert main(["samples", "--profile", "smoke", "--queries", "6", "--out", str(path)]) == 0
    frame = pd.read_parquet(path)
    assert set(frame["model"]) == {"zero-shot"} and set(frame.groupby("query_id").size()) == {4}
    items, _ = comparisons.load(path, n=6)
    assert f"{frame['query_id'].nunique()} queries" in capsys.readouterr().out and 3 <= len(items) <= 6
    assert all(set(item["samples"]) <= set(frame["response"]) for item in items)
    assert main(["samples", "--queries", "0"]) == 2


def test_comparisons_are_named_by_what_they_say():
    items = comparisons.from_world(3)
    named = comparisons.named_by_content(items, "style")
    assert named == comparisons.named_by_content(items, "style") and len({item["id"] for item in named}) == 3
    other = comparisons.named_by_content([{**items[0], "samples": items[1]["samples"]}], "style")
    assert other[0]["id"] not in {item["id"] for item in named}


def test_labelers_stand_side_by_side(labels):
    table = quality.side_by_side(labels)
    assert list(table.index) == list("abcd") and table["answers"].sum() == len(labels)
    assert table.loc["a", "agrees"] == quality.agreement(labels).table.loc["a", "share"]
    assert table["gold_right"].equals(quality.gold_agreement(labels).table["share"].reindex(table.index))
    without = quality.side_by_side(labels.assign(gold_best=None))
    assert without["gold_right"].isna().all() and without["agrees"].notna().all()
