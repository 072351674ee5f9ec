"""README, CONTRIBUTING and docs/: made parts are up to date; links, commands, figures, metrics, claims named exist."""

import json
import re
import shutil
import tomllib
from importlib import util
from pathlib import Path

import pytest

from rlhf_lib import claims, docs, metrics
from rlhf_lib.__main__ import COMMANDS
from rlhf_lib.errors import KitError
from rlhf_lib.notebook_rules import NOTEBOOKS, read_notebook, source
from rlhf_lib.parameters import named_values
from rlhf_lib.profiles import get_profile

ROOT = NOTEBOOKS.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`]+)`", re.DOTALL)


def code_of(page: Path) -> list[str]:
    """Every code span, and every line of a code block."""
    found = []
    for block, span in CODE.findall(page.read_text(encoding="utf-8")):
        found += [" ".join(span.split())] if span else block.splitlines()
    return found


def commands_of(page: Path, start: str) -> list[list[str]]:
    """The words after `start` of every command on a page; comments are cut off."""
    found = []
    for line in code_of(page):
        words = re.sub(r"\s+# .*", "", line).strip()
        words = re.sub(r"^(export )?RLHF_LABELS_URL=\S+ ", "", words)
        if words.startswith(f"{start} "):
            found.append(re.findall(r'(?:[^\s"]|"[^"]*")+', words.removeprefix(start)))
    return found


def by_hand(page: Path) -> str:
    """The page without its made parts, its code and its GPU table, which a test of its own holds."""
    text = re.sub(r"<!-- begin .*?<!-- end [^>]*-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return CODE.sub("", text)


def test_made_parts_are_up_to_date(capsys):
    assert docs.main(["--check"]) == 0, f"run `make docs`: {capsys.readouterr().out}"


def test_the_glossary_has_every_metric_and_no_other():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    made = text.split("<!-- begin metrics")[1].split("<!-- end metrics")[0]
    assert re.findall(r"(?m)^\| `([^`]+)`", made) == [metric.name for metric in metrics.METRICS]


@pages
def test_metrics_named_in_prose_exist(page):
    known = {metric.name for metric in metrics.METRICS}
    kinds = {name.split("/")[0] for name in known if "/" in name}
    named = [code for code in code_of(page) if re.fullmatch(rf"(?:{'|'.join(kinds)})/[\w/]+", code)]
    assert [name for name in named if name not in known] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != CONTRIBUTING], ids=lambda page: page.name)
def test_claims_named_exist(page):
    """CONTRIBUTING is left out, where `style.JUDGES` is code."""
    claims = tomllib.loads((ROOT / "data/claims.toml").read_text(encoding="utf-8"))["claim"]
    ids = {claim["id"] for claim in claims}
    kinds = {name.split(".")[0] for name in ids}
    named = [code for code in code_of(page) if re.fullmatch(rf"(?:{'|'.join(kinds)})(?:\.\w+)+(?:\.\*)?", code)]
    missing = [name for name in named if not any(i == name or i.startswith(name.removesuffix("*")) for i in ids)]
    assert missing == []


def drawn() -> str:
    """A pattern of the figures' names that notebooks save: in f-strings any word may stand for what is filled in."""
    names = set()
    for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"):
        code = "\n".join(source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code")
        names |= set(re.findall(r'"(\d\d_[\w{}]+)"', code))
    return "|".join(re.sub(r"\{\w+\}", r"\\w+", name) for name in names)


@pages
def test_figures_named_are_drawn_by_a_notebook_or_are_there(page):
    named = [code for code in code_of(page) if re.fullmatch(r"\d\d_\w+", code)]
    made, there = re.compile(drawn()), {path.stem for path in (ROOT / "figures").iterdir()}
    assert [name for name in named if not made.fullmatch(name) and name not in there] == []


@pages
def test_make_commands_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"\.PHONY: (.*)", makefile)[1].split()
    variables = set(re.findall(r"\$\((?:if \$\()?([A-Z]+)\)", makefile))
    numbers = {path.name[:2] for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    for target, *given in commands_of(page, "make"):
        assert target in targets, target
        for word in given:
            name, equals, value = word.partition("=")
            assert equals and name in variables, word
            if name in ("ONLY", "FROM"):
                assert set(value.split(",")) <= numbers, word
            if name == "SET":
                get_profile("tiny", **named_values(value.strip('"').split()))


@pages
def test_subcommands_and_their_options_exist(page):
    found = commands_of(page, "python -m rlhf_lib")
    found += [["train", *words] for words in commands_of(page, "accelerate launch -m rlhf_lib.train")]
    for command, *given in found:
        assert command in COMMANDS, command
        code = Path(util.find_spec(COMMANDS[command][0]).origin).read_text(encoding="utf-8")
        for word in given:
            if re.fullmatch(r"--?[a-z]+", word):
                assert f'"{word}"' in code, f"{command} has no option {word}"


@pages
def test_files_named_exist(page):
    """Whole paths, and modules named as they are imported: `labels/schema.py`, `tests/core/test_tasks.py`."""
    named = [code for code in code_of(page) if re.fullmatch(r"[\w./-]+\.(?:py|toml|ipynb|md|json|cff)", code)]
    made = {"class.json", "analysis.json", "analysis/length.py", "tests/analysis/test_length.py"}
    places = (ROOT, ROOT / "rlhf_lib", ROOT / "data", page.parent)
    assert [name for name in named if name not in made and not any((place / name).exists() for place in places)] == []


def test_code_named_in_the_recipes_exists():
    """`module.name` and `folder/module.name`: the module is there, and its source defines the name."""
    checked = 0
    for code in code_of(CONTRIBUTING):
        match = re.fullmatch(r"(\w+(?:/\w+)?)((?:\.\w+)+)(?:\(.*)?", code)
        if not match or match[2] in (".py", ".txt", ".md", ".json", ".toml", ".csv"):
            continue
        files = [*(ROOT / "rlhf_lib").glob(f"{match[1]}.py"), *(ROOT / "rlhf_lib").glob(f"*/{match[1]}.py")]
        for name in match[2].split(".")[1:] if files else ():
            text, checked = files[0].read_text(encoding="utf-8"), checked + 1
            assert re.search(rf"(?m)^\s*(?:def |class )?{name}\b\s*[:=(\[]", text), f"{code}: not in {files[0].name}"
    assert checked > 20


@pages
def test_links_are_alive(page):
    for words, link in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"[{words}]({link})"
        if anchor and target.suffix == ".md":
            headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"[{words}]({link})"


@pages
def test_results_are_not_typed(page):
    assert re.findall(r"\b\d+\.\d+ ?(?:%|nats|s\b|seconds|minutes)", by_hand(page)) == []


def test_headlines_are_claims_and_the_table_says_what_was_measured(tmp_path):
    claims = tomllib.loads((ROOT / "data/claims.toml").read_text(encoding="utf-8"))["claim"]
    assert set(docs.HEADLINES) <= {claim["id"] for claim in claims}
    rows = json.loads((ROOT / "figures/claims.json").read_text(encoding="utf-8"))
    first = next(row for row in rows if row["id"] == docs.HEADLINES[0])
    first |= {"measured": 0.9, "low": 0.875, "high": 0.925, "holds": False, "seeds": 3, "labelers": "simulated"}
    first |= {"reason": "too | few"}
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/claims.json").write_text(json.dumps(rows))
    unmet = sum(row["holds"] is False for row in rows)
    part = docs.claims_part(tmp_path)
    assert (
        "too \\| few" in part
        and "90.0% (87.5% to 92.5%) | bound: at least 85.0% | does not hold" in part
        and "3, simulated" in part
    )
    assert f"All {len(rows)} claims" in part and f"not holding: {unmet};" in part
    (tmp_path / "figures/claims.json").write_text("[]")
    with pytest.raises(KitError, match="make check"):
        docs.claims_part(tmp_path)


def test_the_copy_map_stands_there_once_it_is_drawn(tmp_path):
    (tmp_path / "figures").mkdir()
    assert "![" not in docs.copy_map_part(tmp_path)
    (tmp_path / "figures/09_copy_map.png").write_bytes(b"png")
    (tmp_path / "figures/09_copy_map.alt.txt").write_text("A block at the left.\n")
    assert docs.copy_map_part(tmp_path) == "![A block at the left.](figures/09_copy_map.png)"


def test_rates_stand_there_once_they_are_measured(tmp_path):
    (tmp_path / "figures").mkdir()
    assert "once `make bench`" in docs.speed_part(tmp_path)
    row = {"size": "4x128", "what": "phases", "unit": "episodes a second",
           "ours": 1234.56, "peers": 617.28, "ratio": 2.0,
           "lowest": 1.9, "highest": 2.1, "turns": 7, "share_of_floor": {"sample": 0.1, "all": 0.5},
           "micro_batch": {"ours": 32, "peers": 16}}  # fmt: skip
    alone = {key: row[key] for key in ("size", "what", "unit", "ours", "share_of_floor")}  # without a peer
    work = {"vocabulary": 3072, "dtype": "float16"}
    machine = {"cpu": "a chip", "threads": 2, "versions": {"peers": {"torch": "2.0", "trl": "0.11.4"}}}
    found = {"machine": machine, "work": work, "compared": [row, alone]}
    (tmp_path / "figures/bench.json").write_text(json.dumps(found))
    part = docs.speed_part(tmp_path).splitlines()
    work = "PPO (TRL's PPOTrainer), micro-batches of 32 beside 16"
    wanted = f"| 4x128 | {work} | 1,234.6 episodes a second | 617.3 | 2.00 (1.90 to 2.10) | 7 | 50% |"
    assert part[2] == wanted and len(part) == 5 and "in turns on a chip, 2 threads, float16" in part[4]
    assert "the peers are trl 0.11.4;" in part[-1]
    (tmp_path / "figures/bench.json").write_text("{}")
    with pytest.raises(KitError, match="make bench"):
        docs.speed_part(tmp_path)


def test_a_stale_page_is_said_then_written_and_nothing_else_is_touched(tmp_path, capsys):
    for name in ("README.md", "docs/glossary.md", "figures/claims.json", "figures/gpu_memory_accounted.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    if (ROOT / "figures/bench.json").is_file():
        shutil.copy(ROOT / "figures/bench.json", tmp_path / "figures/bench.json")
    page = tmp_path / "docs/glossary.md"
    whole = page.read_text(encoding="utf-8")
    page.write_text(whole.replace("`objective/kl`", "`objective/lk`"), encoding="utf-8")
    (tmp_path / "README.md").write_text(docs.with_part((ROOT / "README.md").read_text(), "copy-map", "old"))
    assert docs.main(["--root", str(tmp_path), "--check"]) == 1 and "out of date" in capsys.readouterr().out
    assert docs.main(["--root", str(tmp_path)]) == 0 and docs.main(["--root", str(tmp_path), "--check"]) == 0
    by_hand_too = "`objective/lk`"  # prose is nobody's to write again
    assert by_hand_too in page.read_text(encoding="utf-8") and "old" not in (tmp_path / "README.md").read_text().split()


def test_a_page_without_markers_or_missing_is_one_sentence(tmp_path):
    with pytest.raises(KitError, match="the page needs one '<!-- begin metrics -->'"):
        docs.with_part("no markers", "metrics", "x")
    with pytest.raises(KitError, match="cannot be read"):
        docs.pages(tmp_path)


def test_the_teachers_code_runs(tmp_path, monkeypatch):
    """Fill a queue, label it with simulated labelers, export: the page's own lines, in the order of the page."""
    from rlhf_lib.labels import LabelSession, LabelStore, simulated

    monkeypatch.setenv("RLHF_LABELS_URL", f"sqlite:///{tmp_path / 'labels.sqlite'}")
    monkeypatch.chdir(tmp_path)
    fill, show, export = re.findall(r"```python\n(.*?)```", (ROOT / "docs/teachers.md").read_text("utf-8"), re.DOTALL)
    exec(fill, {})
    answers = simulated.SimulatedLabeler(simulated.on_response(simulated.vader_sum), 1.0, 0)
    simulated.label_all(LabelSession(LabelStore(), "Bo", "class-1"), answers, limit=5)
    exec(show, {})
    exec(export, {})
    assert len(json.loads((tmp_path / "class.json").read_text(encoding="utf-8"))) == 5


def test_the_time_of_a_run_is_read_from_its_manifest(tmp_path):
    assert "once `make figures`" in docs.time_part(tmp_path)
    rows = [{"notebook": f"0{n}_x.ipynb", "seconds": 60.0 * n} for n in (1, 6, 4)]
    path = tmp_path / "figures" / "run.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"machine": {"cores": 2}, "notebooks": rows}))
    assert docs.time_part(tmp_path).endswith("took 11 minutes on 2 cores: notebook 06 6, then 04 with 4.")
    path.write_text("{}")
    with pytest.raises(KitError, match="run.json cannot be read"):
        docs.time_part(tmp_path)


def test_the_committed_table_of_claims_is_of_the_committed_claims():
    table = {row["id"]: row for row in json.loads((ROOT / "figures" / "claims.json").read_text())}
    for claim in claims.load_claims():
        row = table[claim.id]
        said = {name: row[name] for name in ("quote", "published", "status", "reason", "kind")}
        assert said == {name: getattr(claim, name) for name in said}, "run `make check`"
    assert len(table) == len(claims.load_claims())
