"""The lessons' form, for every notebook: parameters, sizes, ids, links, exercises whose checks can say no."""

import ast
import json
import re
from pathlib import Path
from statistics import median

import pytest

from rlhf_lib import notebook_rules
from rlhf_lib.notebook_rules import MAX_CELL_LINES, NOTEBOOKS, source

LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
LINK = re.compile(r"\]\(([^)\s#]+\.ipynb)(?:#([^)\s]+))?\)")
NOT_YET = "Not answered yet."
WIDEST_LINE = 112  # characters that JupyterLab shows in one line on a laptop's screen
lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict]:
    return notebook_rules.read_notebook(path)["cells"]


def code_of(path: Path, tag: str | None = None) -> list[str]:
    """Sources of the code cells, or of those that carry a tag."""
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    return [source(cell) for cell in code if tag is None or tag in cell["metadata"].get("tags", [])]


def prose_of(path: Path) -> str:
    return "\n\n".join(source(cell) for cell in cells_of(path) if cell["cell_type"] == "markdown")


def parameters(path: Path) -> dict:
    (code,) = [source(cell) for cell in cells_of(path) if notebook_rules.is_parameters(cell)]
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(code).body}


def planned() -> set[str]:
    """The lessons that 00 lists, built or not: the tuples ("NN_name", …)."""
    return set(re.findall(r'\(\s*"(\d\d_\w+)"', "\n".join(code_of(NOTEBOOKS / "00_start_here.ipynb"))))


def answers(path: Path) -> list[tuple[str, str]]:
    """(check function, variable) of every exercise: its cell is `print(check(variable))` and nothing else."""
    found = []
    for code in code_of(path, "exercise-check"):
        match = re.fullmatch(r"print\((\w+)\((\w+)\)\)", code.strip())
        assert match, f"an exercise-check cell is not print(check(answer)): {code}"
        found.append(match.groups())
    return found


@lessons
def test_hygiene(path):
    assert notebook_rules.problems(path) == []


@lessons
def test_parameters_come_first_and_are_used(path):
    cells = cells_of(path)
    assert source(cells[0]).startswith(f"# {path.name[:2]} · "), "the first cell is the title"
    assert notebook_rules.is_parameters(cells[1]), "the second cell holds the parameters"
    values = parameters(path)
    assert values["profile"] == "smoke" and values["run_dir"] == "", "opened by hand, a lesson takes seconds"
    rest = "\n".join(code_of(path)[1:])
    unused = [name for name in values if not re.search(rf"\b{name}\b", rest)]
    assert unused == [], "declared and never read"


@lessons
def test_cells_are_small(path):
    lines = [len(code.splitlines()) for code in code_of(path)]
    assert max(lines) <= MAX_CELL_LINES
    assert 3 <= median(lines) <= 8, f"median code cell of {median(lines)} lines"


@lessons
def test_more_is_said_than_run(path):
    """What a reader sees of an open notebook is more prose than code."""
    prose, code = notebook_rules.count_words(cells_of(path))
    assert prose > code, f"{prose} words of prose beside {code} of code"


def test_words_are_counted_where_they_are_read():
    folded = {"cell_type": "code", "source": "import this", "metadata": {"jupyter": {"source_hidden": True}}}
    cells = [
        {"cell_type": "markdown", "source": "Two words $x$.\n\n$$y = mx + b$$\n\n```\nmake help\n```\n"},
        {"cell_type": "markdown", "source": "One <details>\nand not these\n</details>"},
        {"cell_type": "code", "source": "mean = total / 3", "metadata": {}},
        folded,
    ]
    assert notebook_rules.count_words(cells) == (4, 3)


@lessons
def test_ids_are_stable(path):
    """nbformat draws ids like '3f2a9c1b' at random; ours are given by hand, so that a diff shows what changed."""
    ids = [cell["id"] for cell in cells_of(path)]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if re.fullmatch(r"[0-9a-f]{8}", i)] == [], "ids drawn at random"


@lessons
def test_links_are_alive(path):
    """A link names a notebook that is here, or one of the planned lessons that 00 lists; anchors exist."""
    listed = planned()
    for name, anchor in LINK.findall(prose_of(path)):
        target = NOTEBOOKS / name
        assert target.is_file() or target.stem in listed, f"{path.name} links to {name}"
        if anchor and target.is_file():
            headings = re.findall(r"(?m)^#+ (.+)$", prose_of(target))
            assert anchor in {heading.strip().replace(" ", "-") for heading in headings}, f"{name} has no #{anchor}"


@lessons
def test_previous_next_and_contents(path):
    listed = sorted(planned())
    place, first = listed.index(path.stem), source(cells_of(path)[0])
    near = [f"{listed[i]}.ipynb" for i in (place - 1, place + 1) if 0 <= i < len(listed)]
    missing = [name for name in near if f"({name})" not in first]
    assert missing == [], "the title cell links to the lesson before and the one after"
    assert "Contents" in first


@lessons
def test_story(path):
    """The lesson form: a prediction, exercises, what to try next."""
    prose = prose_of(path)
    assert "**What you will know after this:**" in prose
    assert re.search(r"\*\*Predict", prose), "the reader predicts before a result"
    assert re.search(r"(?m)^## Exercises", prose) and re.search(r"(?m)^## What would you try next", prose)


@lessons
def test_every_exercise_has_a_check_and_a_folded_solution(path):
    found = answers(path)
    assert 2 <= len(found) <= 4, "two or three exercises"
    folded = [c for c in cells_of(path) if "solution" in c["metadata"].get("tags", [])]
    assert len(folded) == len(found)
    for cell, (check, variable) in zip(folded, found, strict=True):
        assert cell["metadata"]["jupyter"]["source_hidden"], "a solution is folded"
        (asks,) = [c for c in cells_of(path) if f"def {check}(" in source(c)]
        assert asks["metadata"]["jupyter"]["source_hidden"], "a check is folded, because it holds the answer"
        assert re.search(rf"(?m)^{variable} = ", source(cell)) and f"assert {check}({variable})" in source(cell)


@lessons
def test_outputs_were_made_before_the_answers(path):
    """Committed outputs: every exercise stands unanswered, and nothing was written to stderr."""
    for cell in cells_of(path):
        for output in cell.get("outputs", []):
            text = "".join(output.get("text", ""))
            assert output.get("name") != "stderr", f"a warning is committed: {text[:120]}"
            if "exercise-check" in cell["metadata"].get("tags", []):
                assert text.strip() == NOT_YET


@lessons
def test_printed_lines_fit_the_page(path):
    """JupyterLab breaks a printed line in the middle of a word; no dict is printed raw, and no path of this machine."""
    for cell in cells_of(path):
        printed = "".join(t for o in cell.get("outputs", []) for t in o.get("text", []))
        for line in printed.splitlines():
            assert len(line) <= WIDEST_LINE, f"{cell['id']}: {line[:60]}"
            assert not line.startswith("{") and not re.search(r"/(?:work|tmp|home|root|Users)/", line), line[:60]


@lessons
def test_figures_have_words(path):
    """Every picture in an output has its alt text beside it."""
    for cell in cells_of(path):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert output["metadata"].get("image/png", {}).get("alt"), f"{cell['id']}: a figure without words"


@lessons
def test_results_are_not_typed(path):
    """A number with a decimal point and a unit in prose is a result; results are printed from variables."""
    prose = re.sub(r"\$[^$]*\$|`[^`]*`", "", prose_of(path))  # equations and code
    typed = re.findall(r"\b\d+\.\d+ ?(?:%|nats|s\b|seconds|minutes)", prose)
    assert typed == []


def test_the_contents_know_every_lesson():
    listed = planned()
    assert {lesson.stem for lesson in LESSONS} <= listed and len(listed) == 12


# What the kernel runs after a lesson: each check on nothing, on the solution, and on answers that are wrong.
PROBE = """
import json as _json
import numpy as _np

def _wrong(right):
    if isinstance(right, str):
        return ["", "x", right[::-1]]
    if isinstance(right, (int, float, _np.number)):
        return [right + 1, -right - 1, 3 * right + 7]
    if isinstance(right, (tuple, list)):
        return [type(right)(w) for w in zip(*[_wrong(part) for part in right])]
    return []

_rows = []
for _check, _name in {answers}:
    _f, _right = globals()[_check], globals()[_name]
    _rows.append([_check, _f(None), _f(_right), [_f(w) for w in _wrong(_right)]])
print(_json.dumps(_rows))
"""


@pytest.mark.slow
@lessons
def test_checks_accept_the_solution_and_refuse_wrong_answers(path):
    """The lesson is run in a kernel, solutions included; then every check is asked again."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE.replace("{answers}", repr(answers(path)))))
    here = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=here).execute()
    rows = json.loads(notebook.cells[-1].outputs[-1].text)
    assert len(rows) == len(answers(path))
    for check, nothing, right, wrong in rows:
        assert nothing == NOT_YET, check
        assert right.startswith("Right"), f"{check} refuses the solution: {right}"
        assert wrong and not any(said.startswith("Right") for said in wrong), f"{check} accepts a wrong answer"
