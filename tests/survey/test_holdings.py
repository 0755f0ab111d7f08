"""What wheels hold, held against what was built into them; and what that comes to, by rules on any images."""

import json
import re
import zipfile

from hypothesis import given
from hypothesis import strategies as st

from lib import workers
from lib.errors import CollectionError
from lib.instruments import images, loading, toolchain
from lib.subjects import index
from lib.survey import charts, holdings, verdicts
from tests.instruments import fatbins

TARGETS = [75, 80, 90, 100, 103, 110, 120, 121]
IMAGE = st.tuples(st.sampled_from(["cubin", "ptx"]), st.sampled_from(TARGETS), st.sampled_from(["", "a", "f"]), st.sampled_from(["8.0", "9.0", "9.5"]))


def built(kind, sm, suffix, isa):
    return images.Image(kind, sm, suffix, isa if kind == "ptx" else "", "", 0, 0, 0)


@given(st.lists(IMAGE, min_size=1, max_size=5))
def test_a_signature_says_all_that_decides_loading(described):
    """What a driver does with the images of a fatbin and with those that are made of its signature is the same."""
    held = [built(*each) for each in described]
    again = verdicts.fatbin(holdings.signature(held))
    assert {each[:4] for each in held} == {each[:4] for each in again}
    for sm in verdicts.GPUS:
        assert verdicts.how(holdings.signature(held), sm) == loading.how(held, sm, verdicts.DRIVER).how


@given(st.dictionaries(st.lists(IMAGE, min_size=1, max_size=4).map(lambda each: holdings.signature([built(*one) for one in each])),
                       st.integers(1, 9), min_size=1, max_size=4))
def test_a_state_follows_the_fatbins(counts):
    """Nothing loads if no fatbin does; machine code if each has some; and code for the GPU itself mends any library."""
    row = {"project": "one", "state": "wheel", "libraries": {"a.so": counts}, "ptxas": {}, "unread": {}}
    for sm in verdicts.GPUS:
        ways = {verdicts.how(each, sm) for each in counts}
        state = verdicts.state(row, sm)
        assert (state == verdicts.NOTHING) == (ways == {loading.NOTHING})
        assert ways - {loading.NATIVE, loading.FAMILY} or state == verdicts.CODE
        mended = {f"{each} sm_{sm}": count for each, count in counts.items()}
        assert verdicts.state(row | {"libraries": {"a.so": mended}}, sm) == verdicts.CODE
        found = verdicts.library(counts, sm)
        assert sum(found[way] for way in loading.HOW) == found["fatbins"] == sum(counts.values())
        assert found["of others"] <= found[loading.NOTHING]


def test_states_of_what_holds_no_code():
    wheel = {"project": "one", "state": "wheel", "libraries": {}, "ptxas": {}, "unread": {}}
    assert verdicts.state(wheel, 121) == verdicts.CPU
    assert verdicts.state(wheel | {"unread": {"a.so": "damaged"}}, 121) == verdicts.UNREAD
    assert verdicts.state(wheel | {"state": "source"}, 121) == verdicts.SOURCE
    assert verdicts.state(wheel | {"state": "nothing"}, 121) == verdicts.ABSENT
    triton = wheel | {"project": "triton", "ptxas": {"bin/ptxas": ["120", "120a"]}}
    assert (verdicts.state(triton, 121), verdicts.state(triton, 120)) == (verdicts.NOTHING, verdicts.OWN)


def test_members_are_counted_and_a_damaged_one_costs_itself(tmp_path):
    """A library, a truncated one, a ptxas, and texts, in one wheel."""
    one = fatbins.fatbin(fatbins.entry(suffix="f"), fatbins.entry("ptx", 80, isa="8.0"))
    library = fatbins.elf([(".text", b"\x90" * 64), (".nv_fatbin", one + one)])
    packed = tmp_path / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("p/a.so", library)
        zipped.writestr("p/cut.so.1", library[:len(library) // 2])
        zipped.writestr("p/bin/ptxas", b"\x7fELF" + b"-" * (1 << 20) + b"\0compute_120\0compute_121a\0lto_9\0compute_12x\0")
        zipped.writestr("p/bin/script", "#!/bin/sh")
        zipped.writestr("p/text.py", "sm_120")
    with zipfile.ZipFile(packed) as zipped:
        found = holdings.contents(zipped)
    assert found["libraries"] == {"p/a.so": {"compute_80@8.0 sm_120f": 2}}
    assert found["ptxas"] == {"p/bin/ptxas": ["120", "121a"]} and [*found["unread"]] == ["p/cut.so.1"]


def test_a_ptxas_names_what_it_takes():
    """The bytes of the pinned ptxas name exactly what its --help allows."""
    tc = toolchain.find()
    said = set(re.findall(r"'compute_(\d+[af]?)'", tc.run("ptxas", "--help").stdout))
    with open(tc.tool("ptxas"), "rb") as opened:
        assert set(holdings.targets(opened)) == said and "121a" in said


def test_a_package_that_cannot_be_read_costs_itself(monkeypatch):
    def chosen(project, machine, version=""):
        if project == "bad":
            raise CollectionError("bad has no file", "check its name")
        return None

    monkeypatch.setattr(index, "chosen", chosen)
    monkeypatch.setattr(index, "files", lambda project: [])
    monkeypatch.setattr(index, "versions", lambda project, pre=False: {"1.0": "2026-01-01"})
    asked = [{"project": name, "machine": "aarch64"} for name in ("bad", "good")]
    failed, held = workers.ask(holdings.wheel, asked, "wheels")
    assert failed.error and held.answer["state"] == "nothing"


def test_what_is_kept_is_whole_small_and_names_no_index():
    text = verdicts.KEPT.read_text()
    rows = verdicts.kept()
    asked = {(each["name"], machine, newest) for each in verdicts.PACKAGES for machine in verdicts.MACHINES
             for newest in ((True, False) if "older" in each else (True,))}
    assert len(text) < 400_000 and "://" not in text
    assert {(row["project"], row["machine"], row["newest"]) for row in rows} == asked
    assert all(len(row["sha256"]) == 64 and row["bytes"] and row["read"] for row in rows if row["state"] == "wheel")


def test_a_failed_package_stays_as_it_was_kept(tmp_path, monkeypatch):
    rows = verdicts.kept()
    monkeypatch.setattr(verdicts, "KEPT", tmp_path / "kept.json")
    (tmp_path / "kept.json").write_text(json.dumps(rows))
    verdicts.keep(rows[1:], verdicts.wanted("")[:1])  # the first question failed
    assert {str(each) for each in verdicts.kept()} == {str(each) for each in rows}


def test_the_picture_has_a_word_for_every_package_and_gpu():
    table = verdicts.table(verdicts.kept())
    newest = table[table["newest"]]
    drawn = charts.board(newest, "says").figure
    assert len(drawn.layout.annotations) == 4 * newest["package"].nunique()
    words = {each.text for each in drawn.layout.annotations}
    assert words <= {word for word, _, _ in charts.SHOWN.values()}
