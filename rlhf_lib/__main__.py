"""The command line: `python -m rlhf_lib COMMAND …`; each room is imported only when its command is used."""

import sys
from importlib import import_module, util

from rlhf_lib.errors import KitError

# command: (module that has main(argv), what it does)
COMMANDS = {
    "reproduce": ("rlhf_lib.reproduce", "run the notebooks in order and end in the table of claims"),
    "figures": ("rlhf_lib.reproduce", "copy the newest complete run's figures to figures/"),
    "check": ("rlhf_lib.claims", "hold measured numbers against the claims of the blog post"),
    "andon": ("rlhf_lib.andon", "stop a running training, or let it go on"),
    "train": ("rlhf_lib.train", "supervised, reward or PPO training, under accelerate launch too"),
    "calibrate": ("rlhf_lib.calibration", "measure the bounds of the monitors that stop a sick training"),
    "collapse": ("rlhf_lib.collapse", "train the sweep's collapsed run again, as it was and changed"),
    "base": ("rlhf_lib.base", "pretrain the base model"),
    "gpu": ("rlhf_lib.gpu", "measure speed and memory of the real sizes on a GPU"),
    "analyse": ("rlhf_lib.analysis.cli", "novelty, copying and ROUGE of anybody's samples"),
    "likelihood": ("rlhf_lib.likelihood", "how likely samples are under another language model"),
    "samples": ("rlhf_lib.for_labelers", "draw samples of the base model for labelers"),
    "label": ("rlhf_lib.labels.page", "serve the labeling page"),
    "quality": ("rlhf_lib.labels.report", "can these labels be trusted? Of all labelers, in any time window"),
    "docs": ("rlhf_lib.docs", "write the made parts of README.md and docs/ again"),
    "lint-notebooks": ("rlhf_lib.notebook_rules", "check the notebooks' hygiene"),
}
SHARED_MODULES = {"figures": "figures_main"}  # commands that are not their module's `main`


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<15} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: python -m rlhf_lib COMMAND [--help | options]", "", *lines])


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (2 for bad input, which is told in one sentence on stderr)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    try:
        if command not in COMMANDS:
            raise KitError(f"There is no command '{command}'; the commands are {', '.join(COMMANDS)}.")
        module = COMMANDS[command][0]
        if util.find_spec(module) is None:
            raise KitError(f"The command '{command}' is not in this copy of the kit ({module} is missing).")
        return getattr(import_module(module), SHARED_MODULES.get(command, "main"))(rest) or 0
    except KitError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped by the keyboard; what was saved stays saved.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
