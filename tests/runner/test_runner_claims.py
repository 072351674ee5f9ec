"""The claims table: tests against hand-made numbers, and exit statuses that punish only a change of status."""

import json
import math

import pytest

from rlhf_lib import claims, claims_table
from rlhf_lib.errors import KitError

BASE = {"id": "c", "quote": "q", "measured": "a", "test": "bound", "kind": "emergent", "status": "not_measured"}


def claim(**fields):
    return claims.parse_claim({**BASE, **({"at_least": 0.85} if "at_least" not in fields else {}), **fields}, "here")


def order(measured, **fields):
    return claims.parse_claim({**BASE, "test": "order", "measured": measured, **fields}, "here")


def measure(value, low=None, high=None, seeds=3, n=None):
    return claims.Measure(value, low, high, n=n, seeds=seeds)


def holds(one, **measures):
    return claims.judge(one, measures)["holds"]


def test_bounds_at_their_edge():
    assert holds(claim(), a=measure(0.85)) and not holds(claim(), a=measure(0.8499))
    assert holds(claim(at_least=None, at_most=0.02), a=measure(0.02))
    assert not holds(claim(at_least=None, at_most=0.02), a=measure(0.021))
    assert holds(claim(at_least=0.1, at_most=0.3), a=measure(0.2))
    assert not holds(claim(at_least=0.1, at_most=0.3), a=measure(0.31))


def test_the_interval_counts_where_it_is_asked_for():
    sure = claim(at_least=0.5, interval=True)
    assert holds(sure, a=measure(0.6, 0.51, 0.7)) and not holds(sure, a=measure(0.6, 0.49, 0.7))
    assert holds(claim(at_least=0.5), a=measure(0.6, 0.49, 0.7))


def test_a_number_that_holds_is_sure_if_its_interval_does():
    bound, ordered = claim(at_least=0.5), order("a > b")
    assert claims.judge(bound, {"a": measure(0.6, 0.51, 0.7)})["sure"] is True
    row = claims.judge(bound, {"a": measure(0.6, 0.49, 0.7)})
    assert row["sure"] is False and claims_table.cells(row)[3] == "holds, not surely"
    assert claims.judge(bound, {"a": measure(0.4, 0.3, 0.6)})["sure"] is None, "it does not hold"
    row = claims.judge(claim(at_least=0.5, seeds=3), {"a": measure(0.6, 0.51, 0.7, seeds=1)})
    assert row["holds"] and claims_table.cells(row)[3] == "not contradicted", "one seed of the three that are asked"
    apart = claims.judge(ordered, {"a": measure(0.6, 0.55, 0.65), "b": measure(0.4, 0.35, 0.45)})
    assert apart["holds"] and apart["sure"] is None, "an order asks for the interval anyway"


def test_near_the_published_number():
    near = claim(test="margin", at_least=None, within=0.03, published=0.967)
    assert holds(near, a=measure(0.94)) and not holds(near, a=measure(0.93)) and not holds(near, a=measure(0.999))


def test_a_margin_between_two_measures():
    gap = claim(test="margin", measured="a - b", at_least=0.25)
    assert holds(gap, a=measure(0.75), b=measure(0.5)) and not holds(gap, a=measure(0.75), b=measure(0.51))
    row = claims.judge(gap, {"a": measure(0.7, 0.6, 0.8), "b": measure(0.5, 0.4, 0.6)})
    assert row["measured"] == pytest.approx(0.2)
    assert row["low"] == pytest.approx(0.2 - math.hypot(0.1, 0.1)) and row["high"] == pytest.approx(
        0.2 + math.hypot(0.1, 0.1)
    )


def test_a_paired_difference_goes_before_the_independent_one():
    gap, paired = order("a > b"), {"a - b": measure(0.1, 0.05, 0.15)}
    wide = {"a": measure(0.6, 0.4, 0.8), "b": measure(0.5, 0.3, 0.7)}
    assert not holds(gap, **wide) and holds(gap, **wide, **paired)
    assert holds(claim(test="margin", measured="a - b", at_least=0.05), **paired)


def test_orders():
    sharp = {name: measure(v, v - 0.01, v + 0.01) for name, v in (("a", 0.9), ("b", 0.8), ("c", 0.8), ("d", 0.7))}
    assert holds(order("a > b >= c > d"), **sharp)
    assert not holds(order("a > b > c"), **sharp), "equal is not greater"
    assert not holds(order("b >= a"), **sharp)
    assert not holds(order("a > d > b"), **sharp)


def test_fewer_seeds_can_contradict_and_not_establish():
    many = claim(seeds=3, status="reproduced")
    assert holds(many, a=measure(0.80, 0.75, 0.86, seeds=1)), "its interval reaches the bound"
    assert not holds(many, a=measure(0.70, 0.65, 0.75, seeds=1))
    failed = claim(seeds=3, status="not_reproduced", reason="why")
    for seeds, left in ((1, False), (3, True)):
        row = claims.judge(failed, {"a": measure(0.9, 0.88, 0.92, seeds=seeds)})
        assert row["holds"] and claims.has_left(row, failed, whole=True) is left
    assert holds(order("a > b", seeds=3), a=measure(0.5, 0.4, 0.6, seeds=1), b=measure(0.55, 0.4, 0.7, seeds=1))
    assert not holds(order("a > b", seeds=3), a=measure(0.2, 0.1, 0.3, seeds=1), b=measure(0.55, 0.5, 0.6, seeds=1))


def test_fewer_contexts_can_contradict_and_not_establish():
    wide, failed = claim(contexts=1000), claim(contexts=1000, status="not_reproduced", reason="why")
    assert holds(wide, a=measure(0.80, 0.75, 0.86, n=16)), "its interval reaches the bound"
    assert not holds(wide, a=measure(0.80, 0.75, 0.86, n=1024))
    assert not holds(wide, a=measure(0.70, 0.65, 0.75, n=16))
    for n, left in ((16, False), (1024, True)):
        row = claims.judge(failed, {"a": measure(0.9, 0.88, 0.92, n=n)})
        assert row["enough"] is left and claims.has_left(row, failed, whole=True) is left
    strict, near = order("a > b", contexts=300), {"a": measure(0.5, 0.4, 0.6, n=99), "b": measure(0.5, 0.4, 0.6, n=99)}
    assert holds(strict, **near) and not holds(strict, **near, **{"a - b": measure(0.0, -0.1, 0.1, n=300)})


def test_a_core_run_agrees_disagrees_or_says_nothing():
    def agrees(one, **run):
        return claims.direction(one, run)["agrees"]

    bound = claim(run_at_least=0.6)
    assert agrees(bound, a=measure(0.7, 0.55, 0.8)) is True
    assert agrees(bound, a=measure(0.59, 0.55, 0.61)) is None and agrees(bound, a=measure(0.5, 0.45, 0.59)) is False
    assert agrees(claim(), a=measure(0.1, 0.0, 0.2)) is None  # a bound says nothing of shorter trainings
    assert agrees(bound) is None and agrees(bound, a=measure(None)) is None
    gap = claim(test="margin", measured="a - b", at_least=0.25)
    assert agrees(gap, a=measure(0.6, 0.5, 0.7), b=measure(0.5, 0.4, 0.6)) is True
    assert agrees(gap, a=measure(0.3, 0.2, 0.4), b=measure(0.5, 0.4, 0.6)) is False
    assert agrees(gap, **{"a - b": measure(None)}) is None
    three = {"a": measure(3.0), "b": measure(2.0), "c": measure(1.0)}
    assert claims.direction(order("a > b >= c"), three) == {"run": [3.0, 2.0, 1.0], "agrees": True}
    assert agrees(order("a > b > c"), **three | {"c": measure(2.5, 2.4, 2.6)}) is False
    assert agrees(order("a > b > c"), **three | {"c": measure(2.1, 1.9, 2.3)}) is None


def test_a_reproduced_claim_is_left_when_the_run_contradicts_it(tmp_path):
    entry = '[[claim]]\nid = "c"\nquote = "q"\nmeasured = "a"\ntest = "bound"\nat_least = 0.85\nrun_at_least = 0.6\n'
    file = tmp_path / "claims.toml"
    file.write_text(entry + 'kind = "emergent"\nstatus = "reproduced"\n')
    folder = tmp_path / "figures"
    for value, left in ((0.7, 0), (0.4, 1)):
        run = {"a": {"value": value, "low": value - 0.05, "high": value + 0.05}}
        claims.record_measures(folder, "m", {"a": {"value": 0.9, "seeds": 3}}, run)
        assert claims.check(folder, "tiny", file)[0] == left
        row = json.loads((folder / "claims.json").read_text())[0]
        assert (row["measured"], row["run"], row["agrees"]) == (0.9, value, not left)


def test_pairs_that_claims_hold_against_one_another(tmp_path):
    lines = [{**BASE, "id": "1", "test": "order", "measured": "x.a > x.b >= x.c"},
             {**BASE, "id": "2", "test": "order", "measured": "x.a > y.b"},
             {**BASE, "id": "3", "test": "margin", "measured": "x.b - x.c", "at_least": 0}]  # fmt: skip
    text = "\n".join("[[claim]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) for row in lines)
    (tmp_path / "claims.toml").write_text(text)
    assert claims.pairs("x.", tmp_path / "claims.toml") == [("x.a", "x.b"), ("x.b", "x.c")]


@pytest.mark.parametrize(
    ("status", "value", "whole", "left"),
    [
        ("reproduced", 0.9, True, False),
        ("reproduced", 0.8, True, True),
        ("reproduced", math.nan, False, True),
        ("reproduced", None, True, True),
        ("reproduced", None, False, False),
        ("not_reproduced", 0.8, True, False),
        ("not_reproduced", 0.9, True, True),
        ("not_reproduced", math.inf, True, False),
        ("not_reproduced", None, True, False),
        ("not_measured", 0.9, True, False),
        ("not_measured", 0.1, True, False),
    ],
)
def test_exit_status_only_when_a_status_is_left(tmp_path, status, value, whole, left, capsys):
    file = tmp_path / "claims.toml"
    reason = 'reason = "why"' if status == "not_reproduced" else ""
    file.write_text(
        f'[[claim]]\nid = "c"\nquote = "q"\nmeasured = "a"\ntest = "bound"\nat_least = 0.85\nunit = "%"\n'
        f'published = 0.88\nkind = "emergent"\nstatus = "{status}"\nseeds = 3\n{reason}\n'
    )
    if value is not None:
        claims.record_measures(tmp_path, "some", {"a": {"value": value, "seeds": 3, "labelers": "simulated"}})
    code, _ = claims.check(tmp_path, "tiny", file, whole)
    assert code == int(left)
    row = json.loads((tmp_path / "claims.json").read_text())[0]
    wanted = {"id", "quote", "published", "measured", "low", "high", "test", "kind", "status", "holds", "seeds"}
    wanted |= {"profile", "labelers"}
    assert wanted <= set(row) and row["left"] is left
    assert ("Left their recorded status: c" in capsys.readouterr().out) is left
    assert "88.0%" in (tmp_path / "claims.md").read_text()
    assert claims.check(tmp_path, "smoke", file, whole)[0] == 0, "recorded for another profile"


def test_the_tables_are_the_same_when_written_again(tmp_path):
    claims.record_measures(tmp_path, "some", {"style.sentiment.preference": {"value": 0.9, "low": 0.88, "high": 0.92}})
    claims.check(tmp_path, "tiny")
    before = [(tmp_path / name).read_text() for name in ("claims.json", "claims.md")]
    claims.check(tmp_path, "tiny")
    assert [(tmp_path / name).read_text() for name in ("claims.json", "claims.md")] == before


def test_measures_keep_no_nan_and_other_json_is_left_alone(tmp_path):
    path = claims.record_measures(tmp_path, "m", {"a": {"value": math.nan, "low": -math.inf, "n": 10}})
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    (tmp_path / "curve.json").write_text("[[1, 2]]")
    (tmp_path / "broken_figure.json").write_text("{")
    assert claims.load_measures(tmp_path) == {"a": claims.Measure(None, None, None, 10)}
    with pytest.raises(KitError, match="'b' needs a value"):
        claims.record_measures(tmp_path, "n", {"b": {"valu": 1}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"measures": {"a": ', "not readable JSON"),
        ('{"measures": {"a": 3}}', "'a' in .* is not a measure"),
        ('{"measures": {"a": {"value": "x"}}}', "'a' in .* is not a measure"),
    ],
)
def test_broken_measures_are_one_sentence(tmp_path, text, said):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(KitError, match=said):
        claims.load_measures(tmp_path)


def test_a_measure_recorded_twice_is_refused(tmp_path):
    for name in ("one", "two"):
        claims.record_measures(tmp_path, name, {"a": {"value": 1}})
    with pytest.raises(KitError, match=r"'a' stands in one\.json and in two\.json"):
        claims.load_measures(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": "guess"}, "test is 'guess'"),
        ({"status": "done"}, "status is 'done'"),
        ({"kind": "magic"}, "kind is 'magic'"),
        ({"colour": 1}, "unknown .'colour'"),
        ({"status": "not_reproduced"}, "needs a reason"),
        ({"measured": "a > b"}, "not how a test of kind bound is measured"),
        ({"test": "margin", "measured": "a -"}, "not how a test of kind margin"),
        ({"test": "order"}, "not how a test of kind order"),
        ({"test": "order", "measured": "a > b"}, "an order has none"),
        ({"at_least": None}, "needs at_least"),
        ({"within": 0.1}, "one published number"),
    ],
)
def test_malformed_claims_are_one_sentence(change, said):
    with pytest.raises(KitError, match=said):
        claim(**change)


def test_malformed_files(tmp_path):
    file = tmp_path / "claims.toml"
    with pytest.raises(KitError, match="no claims file"):
        claims.load_claims(file)
    for text, said in (("[[claim]\n", "not readable TOML"), ('[[claim]]\nid = "x"\n', "fields missing")):
        file.write_text(text)
        with pytest.raises(KitError, match=said):
            claims.load_claims(file)
    one = '[[claim]]\nid="c"\nquote="q"\nmeasured="a"\ntest="bound"\nat_least=1\nkind="emergent"\nstatus="reproduced"\n'
    file.write_text(one + one)
    with pytest.raises(KitError, match="two claims with the id 'c'"):
        claims.load_claims(file)


def test_the_recorded_claims():
    rows = {row.id: row for row in claims.load_claims()}
    assert len(rows) > 90
    assert rows["style.sentiment.preference"].published == 0.88
    assert rows["novelty.cnndm.order"].published == [0.967, 0.917, 0.836, 0.696, 0.025]
    assert rows["novelty.cnndm.order"].relations == [">=", ">", ">", ">"]


def test_a_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(KitError, match="no folder"):
        claims.main(["--figures", str(tmp_path / "none")])


@pytest.mark.parametrize(
    ("model", "name"),
    [("supervised + fine-tuned", "supervised_fine_tuned"), ("lead-3", "lead_3"), ("zero-shot", "zero_shot")],
)
def test_slugs(model, name):
    assert claims.slug(model) == name


def test_what_is_asked_reads_as_people_say_it():
    assert claims_table.asked(claim(at_least=0.1, at_most=0.3, unit="%")) == "at least 10.0% and at most 30.0%"
    assert claims_table.asked(claim(at_least=2, unit="nats", interval=True)) == "at least 2 nats, with its interval"
    assert claims_table.asked(claim(at_least=0.05, measured="a - b", test="margin", unit="%")) == "at least 5 points"
    near = claim(at_least=None, within=0.2, published=0.776, test="margin", unit="%")
    assert claims_table.asked(near) == "no farther from the published than 20 points"
    assert claims_table.asked(order("a > b")) == ""
    assert (
        claims_table.cells(claims.judge(claim(unit="%"), {}))[claims_table.HEADINGS.index("test")]
        == "bound: at least 85.0%"
    )


def test_numbers_read_as_people_write_them():
    assert claims_table.shown(60_000, "labels") == "60,000 labels"
    assert claims_table.shown([0.88, 0.5], "%") == "88.0%, 50.0%"
    assert claims_table.shown(-1234.5, "") == "-1,234"
    assert claims_table.shown(3.14159, "nats") == "3.14 nats"
    assert claims_table.shown(None, "%") == "–"
