"""The threads as recorded, and the findings of notebook 07 on other records."""

from datetime import date

import pytest

from lib.evidence import read, threads

pytestmark = pytest.mark.xdist_group("07")
LINK = "https://example.org/thread"


@pytest.fixture(scope="module")
def table():
    return threads.records()


@pytest.fixture(scope="module")
def seven(cells):
    return cells("07-the-pattern")


def test_every_thread_is_there_once_with_days_in_order(table):
    assert table["id"].is_unique and len(threads.links()) == len(table) + len(threads.PAGES)
    for row in table.itertuples():
        opened, newest = date.fromisoformat(row.opened), date.fromisoformat(row.newest)
        assert opened <= newest <= date.fromisoformat(threads.NEWEST_POST), row.id
        assert not row.merged_by or row.opened <= row.merged_by, row.id
        assert row.state in threads.MARKS or row.author == "?", row.id
        assert row.sources[0] == row.link and all(each.startswith("https://") for each in row.sources)


def test_a_number_of_github_s_grows_with_its_day(table):
    """Issues and pull requests of a repository share one ascending number; a first post seen may be later."""
    for _, rows in table[table["dated"].isin(["", "by its number, between 12301 and 12309, both of that day"])].groupby("repo"):
        days = list(rows.assign(number=rows["id"].astype(int)).sort_values("number")["opened"])
        assert days == sorted(days)


def test_pull_requests_of_the_five_cover_the_five_bugs(table):
    five = table[table["role"] == "fix"]
    assert list(five["bug"]) == [1, 2, 3, 4, 5] and five["author"].nunique() == 1


@pytest.mark.parametrize("then, opened, merged_by, day, holds", [
    ("open", "2026-03-18", "", "2026-03-18", True), ("open", "2026-03-18", "", "2026-03-17", False),
    ("open", "2026-03-12", "2026-03-18", "2026-03-18", False), ("merged", "2026-03-12", "2026-03-18", "2026-03-18", True),
    ("merged", "2026-03-12", "2026-03-18", "2026-03-17", False), ("merged", "2026-03-12", "", "2026-03-18", None)])
def test_how_a_thread_stood_on_a_day(table, then, opened, merged_by, day, holds):
    row = table.head(1).assign(then=then, opened=opened, merged_by=merged_by)
    assert threads.stood(next(row.itertuples()), day) is holds


def test_a_size_of_a_later_form_is_not_one_of_march(table):
    sizes = threads.sizes(table[table["role"] == "fix"]).set_index("id")
    later = sizes[sizes["published"].eq(False)]
    assert len(later) and later["march"].isna().all() and later["added"].notna().all()
    assert sizes["source"].str.startswith("https://github.com/").all()


def test_timeline_has_each_state_once_in_its_legend_and_short_labels(table):
    some = table[table["state"] != "not found"]
    drawn = threads.timeline(some, threads.RELEASES)
    named = [trace.name for trace in drawn.data if trace.showlegend]
    assert sorted(named) == sorted(some["state"].unique())
    labels = [label for trace in drawn.data if trace.mode == "markers+text" for label in trace.text]
    assert len(labels) == len(threads.RELEASES) and max(map(len, labels)) <= 10


def states(five, **changes):
    return five.assign(**{name: [change.get(id, old) for id, old in zip(five["id"], five[name])]
                          for name, change in changes.items()})


def test_p2_follows_the_threads(seven):
    assert seven.found("pattern.pull-requests").verdict == "confirmed"
    late = seven.again("pattern.pull-requests", five=lambda t: states(t, opened={"12309": "2026-03-20"}))
    assert late.verdict == "refined" and late.tier == "reported"
    merged = seven.again("pattern.pull-requests", five=lambda t: states(t, state={"12301": "merged"}))
    assert merged.values["merged"] == seven.found("pattern.pull-requests").values["merged"] + 1
    assert merged.summary != seven.found("pattern.pull-requests").summary


def test_p3_follows_the_days_and_the_parts(seven):
    found = seven.found("pattern.convergence")
    assert found.verdict == "refined" and (found.values["inside"], found.values["aimed"]) == (2, 1)
    same = seven.again("pattern.convergence", three=lambda t: t.assign(opened="2026-03-15", sm12x=True))
    assert same.verdict == "confirmed" and same.values["inside"] == same.values["n"]
    other = seven.again("pattern.convergence", three=lambda t: t.assign(opened="2026-04-15", sm12x=False))
    assert other.verdict == "refuted"


def test_p4_follows_what_had_run(seven):
    found = seven.found("pattern.run-before")
    assert found.verdict == "refuted" and found.tier == "reported"
    assert [part["holds"] for part in found.parts].count(None) == 1
    some = seven.again("pattern.run-before", unknown=lambda parts: parts | {"nobody there had run them on a Spark": read(True, LINK)})
    assert some.verdict == "refined"
    again = seven.again("pattern.run-before", before=lambda t: t[t["opened"] >= "2026"])
    assert again.values["n"] < found.values["n"] and again.summary != found.summary


def test_p1_follows_the_causes(seven):
    found = seven.found("pattern.cause")
    assert found.verdict == "refined" and found.values["n"] == 5
    one = seven.again("pattern.cause", causes=lambda parts: {says: read(True, LINK) for says in parts})
    assert one.verdict == "confirmed" and one.values["fit"] == 5 and one.tier == "reported"
    none = seven.again("pattern.cause", causes=lambda parts: {says: read(False, LINK) for says in parts})
    assert none.verdict == "refuted" and none.values["fit"] == 0


def test_p6_counts_the_forms_of_march_only(seven):
    found = seven.found("pattern.sizes")
    assert found.verdict == "refined" and found.values["known"] == 1
    assert [part["holds"] for part in found.parts].count(None) == 5
    large = seven.again("pattern.sizes", sizes=lambda t: t.assign(march=400))
    assert large.verdict == "refuted" and large.values["lines"] == 400
    small = seven.again("pattern.sizes", sizes=lambda t: t.assign(march=60))
    assert small.verdict == "refined" and small.values["known"] == small.values["n"]
    assert seven.again("pattern.sizes", sizes=lambda t: t.assign(march=100)).verdict == "confirmed"


def test_p5_follows_what_the_five_blocked(seven):
    found = seven.found("pattern.together")
    assert found.verdict == "refuted"
    ran = seven.again("pattern.together", together=lambda parts: parts | {"after all five it ran on SM121": read(True, LINK)})
    assert ran.verdict == "refined"
    dense = seven.again("pattern.together", before=lambda t: t.assign(moe=False))
    assert dense.values["moe"] == 0 < found.values["moe"]
