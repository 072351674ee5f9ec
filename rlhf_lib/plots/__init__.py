"""Every figure of the kit: data frame in, matplotlib figure out. Never imports torch."""

from rlhf_lib.plots.known import lines_by_panel, reward_kl_frontier
from rlhf_lib.plots.signflip import casebook_curves, collapse_curves, likelihood_against_score, probe_effect
from rlhf_lib.plots.style import MODEL_COLOURS, MODEL_ORDER, colour_of, keeper, ordered, save_figure
from rlhf_lib.plots.summaries import (
    accuracy_figure,
    agreement_by_kind,
    copied_sentence_figure,
    copy_density,
    copy_map,
    copy_start_figure,
    novelty_figure,
    opening_figure,
    preference_matrix,
    rouge_against_preference,
    rouge_bars,
)
from rlhf_lib.plots.tables import samples_along_training, samples_side_by_side, text_table
from rlhf_lib.plots.tokens import credit_under_tokens, tokens_on_text
from rlhf_lib.plots.training import (
    calibration_plot,
    cost_by_position,
    learning_curve,
    ppo_curves,
    preference_by_labels,
    reward_accuracy_by_labels,
    scores_on_a_line,
    sign_flip,
    strategies_by_budget,
)

__all__ = [
    "MODEL_COLOURS", "MODEL_ORDER", "accuracy_figure", "agreement_by_kind", "calibration_plot", "casebook_curves",
    "collapse_curves", "colour_of", "copied_sentence_figure", "copy_density", "copy_map", "copy_start_figure",
    "cost_by_position", "credit_under_tokens", "keeper", "learning_curve", "likelihood_against_score",
    "lines_by_panel", "novelty_figure", "opening_figure", "ordered", "ppo_curves", "preference_by_labels",
    "preference_matrix", "probe_effect", "reward_accuracy_by_labels", "reward_kl_frontier",
    "rouge_against_preference", "rouge_bars", "samples_along_training", "samples_side_by_side", "save_figure",
    "scores_on_a_line", "sign_flip", "strategies_by_budget", "text_table", "tokens_on_text",
]  # fmt: skip
