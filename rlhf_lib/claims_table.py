"""The claims beside what was measured, as a table for a terminal and for a web page (`claims.judge` makes its rows)."""


def shown(value, unit: str) -> str:
    """A number, or a list of them, as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(shown(item, unit) for item in value)
    if isinstance(value, str):
        return value
    if unit == "%":
        return f"{100 * value:.1f}%"
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # 60,000, not 6e+04
    return f"{number} {unit}" if unit else number


def asked(claim) -> str:
    """What a `claims.Claim` asks of the measured number, as a person reads it: "at least 5.0%"; "" for an order."""
    bounds = {"at least": claim.at_least, "at most": claim.at_most, "no farther from the published than": claim.within}
    points = claim.unit == "%" and (claim.within is not None or len(claim.names) == 2)  # a difference of two shares
    said = " and ".join(
        f"{word} {100 * bound:g} points" if points else f"{word} {shown(bound, claim.unit)}"
        for word, bound in bounds.items()
        if bound is not None
    )
    return said + ", with its interval" * claim.interval


def now(row: dict) -> str:
    """Whether a claim holds in these figures, in words."""
    if not row["holds"]:
        return "not measured" if row["holds"] is None else "does not hold"
    if not row["enough"]:
        return "not contradicted"
    return "holds, not surely" if row["sure"] is False else "holds"


def cells(row: dict) -> list[str]:
    """The table's columns for one claim."""
    measured = shown(row["measured"], row["unit"])
    if isinstance(row["low"], float) and isinstance(row["high"], float):
        measured += f" ({shown(row['low'], row['unit'])} to {shown(row['high'], row['unit'])})"
    agrees = {True: " agrees", False: " DISAGREES", None: ""}[row["agrees"]]
    run = shown(row["run"], row["unit"]) + agrees
    status = row["status"].replace("_", " ") + (" – LEFT" if row["left"] else "")
    behind = "" if row["seeds"] is None else f"{row['seeds']}, {row['labelers']}"
    kind, test = row["kind"].replace("_", " "), ": ".join(filter(None, (row["test"], row["asked"])))
    return [row["id"], shown(row["published"], row["unit"]), measured, now(row), run, test, kind, status, behind]


HEADINGS = [
    "claim",
    "published",
    "measured (95%)",
    "now",
    "this run",
    "test",
    "kind",
    "recorded status",
    "seeds, labelers",
]


def as_text(rows: list[dict]) -> str:
    """The table with aligned columns, for a terminal, and below it why what is not reproduced is not."""
    table = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in table]
    why = [f"{row['id']}: {row['reason']}" for row in rows if row["reason"]]
    return "\n".join([*lines, "", *why] if why else lines)


def as_markdown(rows: list[dict], profile: str) -> str:
    """The table for a web page, with what each claim says and why one does not hold."""
    head = [*HEADINGS[:1], "what it says", *HEADINGS[1:]]
    lines = [
        f"# Published and measured, profile `{profile}`\n",
        "*Emergent*: it came out of training. *Built in*: a simulated labeler, or the world, was coded so.",
        "A claim *holds* where the measured number keeps what its *test* asks for; *not surely* where its 95% interval",
        "reaches over what is asked, *not contradicted* where it has too few seeds or contexts to hold. *Measured*: by",
        "the recorded sweep, where there is one. *This run*: by the run's own, shorter training; it has to agree in",
        "direction where the recorded status is *reproduced*.\n",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    for row in rows:
        columns, why = cells(row), f" *({row['reason']})*" if row["reason"] else ""
        texts = [columns[0], row["quote"] + why, *columns[1:]]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    return "\n".join(lines) + "\n"
