"""Figures draw what their frame says, keep one colour a model, and are saved with their numbers and words."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from rlhf_lib import plots
from rlhf_lib.errors import KitError
from rlhf_lib.plots.summaries import stacked_contexts
from tests.analysis import made_up

FIGURES = {
    "learning_curve": lambda: plots.learning_curve(made_up.learning()),
    "cost_by_position": lambda: plots.cost_by_position(made_up.said_twice(), half=6, vocabulary=3072),
    "ppo_curves": lambda: plots.ppo_curves(made_up.ppo(), kl_target=6.0),
    "reward_accuracy_by_labels": lambda: plots.reward_accuracy_by_labels(made_up.accuracy_by_labels(), ceiling=0.7),
    "preference_by_labels": lambda: plots.preference_by_labels(made_up.preference(), noise_ceiling=0.93),
    "calibration_plot": lambda: plots.calibration_plot(made_up.calibration()),
    "reward_kl_frontier": lambda: plots.reward_kl_frontier(*made_up.frontier()),
    "lines_by_panel": lambda: plots.lines_by_panel(made_up.frontier()[0], "kl", "reward", "KL (nats)", "true reward"),
    "sign_flip": lambda: plots.sign_flip(*made_up.flip()),
    "likelihood_against_score": lambda: plots.likelihood_against_score(*made_up.likelihood()),
    "probe_effect": lambda: plots.probe_effect(made_up.effects(), 0.1, "sign_lost"),
    "casebook_curves": lambda: plots.casebook_curves(made_up.casebook()),
    "collapse_curves": lambda: plots.collapse_curves(made_up.collapse()),
    "novelty_figure": lambda: plots.novelty_figure(made_up.novelty()),
    "copy_map": lambda: plots.copy_map(made_up.copies()),
    "copy_density": lambda: plots.copy_density(made_up.density()),
    "copy_start_figure": lambda: plots.copy_start_figure(made_up.copy_start()),
    "copied_sentence_figure": lambda: plots.copied_sentence_figure(made_up.copied_sentences()),
    "opening_figure": lambda: plots.opening_figure(made_up.openings()),
    "preference_matrix": lambda: plots.preference_matrix(made_up.preferences()),
    "accuracy_figure": lambda: plots.accuracy_figure(made_up.accuracy()),
    "rouge_against_preference": lambda: plots.rouge_against_preference(made_up.rouge_and_preference()),
    "strategies_by_budget": lambda: plots.strategies_by_budget(made_up.strategies()),
    "rouge_bars": lambda: plots.rouge_bars(made_up.rouge()),
    "agreement_by_kind": lambda: plots.agreement_by_kind(made_up.agreement_by_kind()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_words_on_its_axes(name):
    figure = FIGURES[name]()
    axes = [a for a in figure.axes if a.get_visible() and a.axison]
    assert any(a.get_xlabel() or a.get_xticklabels() for a in axes)
    assert any(a.get_ylabel() or a.get_yticklabels() for a in axes)


def test_the_frontier_keeps_published_points_in_a_panel_of_their_own():
    data, optimum = made_up.frontier()
    mine, published = plots.reward_kl_frontier(data, optimum).axes
    assert published.get_title().startswith("published")
    for axis, panel in ((mine, "this run"), (published, "published (774M)")):
        drawn = {bars.get_label(): bars.lines[0] for bars in axis.containers}
        for run in ("small", "large"):
            rows = data[(data["run"] == run) & (data["panel"] == panel)]
            assert np.allclose(drawn[run].get_xydata(), rows[["kl", "reward"]])
            assert (drawn[run].get_markerfacecolor() == "none") == (axis is published)
    same = [{b.get_label(): b.lines[0].get_color() for b in axis.containers} for axis in (mine, published)]
    assert same[0] == same[1] and len(set(same[0].values())) == 2
    alone = plots.reward_kl_frontier(data.query("panel == 'this run'").drop(columns="panel"))
    assert len(alone.axes) == 1


def test_on_the_line_of_scores_only_the_picked_one_is_coloured():
    """There is nothing to read upwards, so this figure has no second axis."""
    points = made_up.comparison()
    (axis,) = plots.scores_on_a_line(points, best=3).axes
    places = [mark.get_offsets()[0][0] for mark in axis.collections]
    colours = [to_hex(mark.get_facecolor()[0]).upper() for mark in axis.collections]
    assert places == list(points.score) and colours == ["#8C8C8C"] * 3 + ["#D55E00"]
    arrows = [text.xy[0] - text.xyann[0] for text in axis.texts if hasattr(text, "xyann")]
    assert np.allclose(arrows, points.push) and axis.get_xlabel()


def test_what_is_beyond_chance_has_its_interval():
    data = made_up.agreement_by_kind()
    data = data.assign(beyond_low=data.beyond_chance - 0.5, beyond_high=data.beyond_chance + 0.1)
    beyond = plots.agreement_by_kind(data).axes[1]
    (bars,) = [held for held in beyond.containers if hasattr(held, "errorbar") and held.errorbar is not None]
    ends = np.array([segment[:, 1] for segment in bars.errorbar[2][0].get_segments()])  # [kinds, low and high]
    assert np.allclose(ends, data[["beyond_low", "beyond_high"]]) and beyond.get_ylim()[0] <= ends.min() < 0
    plain = plots.agreement_by_kind(made_up.agreement_by_kind()).axes[1]
    assert plain.containers[0].errorbar is None and plain.get_ylim()[0] > -0.1


def test_lines_carry_the_frames_numbers():
    data = made_up.learning()
    axis = plots.learning_curve(data).axes[0]
    drawn = axis.lines[0].get_xydata()
    assert np.allclose(drawn, data[data["split"] == "train"][["step", "loss"]])


def test_a_model_has_one_colour_in_every_figure():
    density = plots.copy_density(made_up.density()).axes[0]
    dots = plots.novelty_figure(made_up.novelty()).axes[0]
    in_density = {line.get_label(): to_hex(line.get_color()) for line in density.lines}
    in_novelty = {c.get_label(): to_hex(c.lines[0].get_color()) for c in dots.containers}
    for model in made_up.MODELS:
        assert in_density[model] == in_novelty[model] == plots.colour_of(model).lower()
    assert len(set(plots.MODEL_COLOURS.values())) == len(plots.MODEL_COLOURS)


def test_an_unknown_name_keeps_its_colour():
    assert plots.colour_of("my-model") == plots.colour_of("my-model") != plots.colour_of("another-model")


def test_published_values_are_open_marks():
    axis = plots.preference_by_labels(made_up.preference()).axes[0]
    published = [line for line in axis.lines if line.get_label() == "published"]
    assert len(published) == 1 and published[0].get_markerfacecolor() == "none"


def test_stacked_contexts_are_sorted_and_marked():
    rows = pd.DataFrame({"source_length": [4, 6, 5], "positions": [[2, 3], [0, 1], []]})
    picture = stacked_contexts(rows, 6)
    assert picture.tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 2]]


def test_a_missing_column_or_row_is_said():
    with pytest.raises(KitError, match=r"copy_density needs the column\(s\) density"):
        plots.copy_density(made_up.density().drop(columns="density"))
    with pytest.raises(KitError, match="without rows"):
        plots.copy_density(made_up.density().iloc[:0])
    with pytest.raises(KitError, match="ppo_curves"):
        plots.ppo_curves(pd.DataFrame({"update": [1]}))


def test_saved_figure_has_picture_numbers_and_words(tmp_path):
    data = made_up.density()
    paths = plots.save_figure(plots.copy_density(data), data, tmp_path / "deep" / "density.v2", "Where copies start.")
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    assert b"Where copies start." in paths["svg"].read_bytes()
    assert paths["alt"].read_text() == "Where copies start.\n"
    pd.testing.assert_frame_equal(pd.read_csv(paths["data"]), data.reset_index(drop=True), atol=1e-4)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == [
        "density.v2.alt.txt",
        "density.v2.csv",
        "density.v2.png",
        "density.v2.svg",
    ]


def test_a_notebook_keeps_a_figure_with_its_numbers_and_words(tmp_path):
    keep = plots.keeper(tmp_path)
    figure = plots.learning_curve(made_up.learning())
    assert keep(figure, made_up.learning(), "00_loss", "Loss falls.") is figure
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "00_loss.png", "00_loss.svg", "00_loss.csv", "00_loss.alt.txt"
    }  # fmt: skip


def test_nested_numbers_are_saved_as_json(tmp_path):
    data = made_up.copies().head(3)
    paths = plots.save_figure(plots.copy_map(data), data, tmp_path / "map", "Copies.")
    assert json.loads(paths["data"].read_text())[0]["positions"] == data["positions"].iloc[0]


def test_the_same_figure_gives_the_same_files(tmp_path):
    data = made_up.density()
    first, second = (
        plots.save_figure(plots.copy_density(data), data, tmp_path / folder / "density", "Words.")
        for folder in ("one", "two")
    )
    for kind in first:
        assert first[kind].read_bytes() == second[kind].read_bytes()


def test_a_figure_without_words_or_folder_is_refused(tmp_path):
    figure = plots.copy_density(made_up.density())
    with pytest.raises(KitError, match="alt text"):
        plots.save_figure(figure, made_up.density(), tmp_path / "x", " ")
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="cannot be written"):
        plots.save_figure(figure, made_up.density(), tmp_path / "file" / "x", "Words.")


def test_samples_are_escaped():
    page = plots.samples_side_by_side(made_up.sample_rows(), limit=1, query_characters=40)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.count("<tr>") == 2 and "more characters" in page


def test_a_reference_among_the_models_has_one_column():
    rows = made_up.sample_rows()
    own = rows.drop_duplicates("query_id").assign(model="reference")
    page = plots.samples_side_by_side(pd.concat([rows.assign(reference="words"), own]), limit=1)
    assert page.count(">reference<") == 1


def test_words_stand_at_the_left_and_are_escaped():
    frame = pd.DataFrame({"text": [" <b>bold</b>", None], "points": [1.234, 2.0]}, index=["one", "two"])
    page = plots.text_table(frame)
    assert page.count("<tr>") == 3 and page.count("text-align:left") == 9
    assert ">&lt;b&gt;bold&lt;/b&gt;<" in page and ">–<" in page and ">1.23<" in page


def test_a_shown_figure_carries_its_words(tmp_path):
    figure = plots.copy_density(made_up.density())
    plots.save_figure(figure, made_up.density(), tmp_path / "x", " Words. ")
    picture, beside = figure._repr_png_()
    assert picture.startswith(b"\x89PNG") and beside == {"alt": "Words."}


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 1), (3, 1, 3), (4, 2, 2), (5, 2, 3)])
def test_many_panels_are_wrapped(count, rows, columns):
    metrics = [f"metric {k}" for k in range(count)]
    data = pd.DataFrame({"episodes": 1, "metric": metrics, "value": 1.0, "run": "this run"})
    figure = plots.sign_flip(data, colours={"this run": "#0072B2"})
    assert len(figure.axes) == count
    assert figure.axes[0].get_gridspec().get_geometry() == (rows, columns)


def test_a_notebook_can_show_a_figure_once():
    from matplotlib import pyplot

    figure = plots.copy_density(made_up.density())
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []


def test_recorded_values_are_pale_squares_behind_the_dots():
    data = made_up.novelty()
    axis = plots.novelty_figure(data.assign(recorded=data["novelty"] + 0.01)).axes[0]
    squares = [line for line in axis.lines if line.get_marker() == "s"]
    assert len(squares) == 5 and all(line.get_alpha() < 0.5 for line in squares)
    assert np.allclose(squares[0].get_ydata(), data.query("task == 'cnndm' and model == 'reference'")["novelty"] + 0.01)


def test_simulated_labelers_are_called_simulated():
    titles = [axis.get_title() for axis in plots.preference_matrix(made_up.preferences()).axes[:2]]
    assert titles == ["hurried labelers (simulated)", "careful labelers (simulated)"]
