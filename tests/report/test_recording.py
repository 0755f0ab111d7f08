"""Recorded runs: results only, small, with their provenance, and never half of one."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.report import commands, comparison, record
from lib.subjects import tensorrt_llm, wheels
from tests.conftest import command
from tests.evidence.test_findings import RUN, finding
from tests.report.test_runner import GOOD, kernels_of, run
from tests.subjects.test_wheels import index  # noqa: F401 (a fixture)

RECORDED = comparison.recorded()


def keep(folder, name="h100", found=None, run=RUN):
    (folder / "scratch").mkdir(exist_ok=True)
    return record.keep(folder / "recorded", name, run, [finding()] if found is None else found, folder / "scratch")


@pytest.mark.parametrize("name", ["h100", "NVIDIA_H100-80.1", "4", "a" * 64])
def test_a_recorded_run_is_whole_compact_and_marked(tmp_path, name):
    path = keep(tmp_path, name)
    kept = record.read(path)
    assert kept["run"] == {"name": name} | RUN and kept["findings"] == [finding() | {"recorded": True, "digest": kept["findings"][0]["digest"]}]
    assert path.read_text() == record.compact(kept) + "\n"
    assert [each.name for each in path.parent.iterdir()] == ["evidence.json"] and not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-h", "a/b", "a b", "ä", "a\n", "a" * 65])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(CollectionError, match="cannot be the name"):
        keep(tmp_path, name)
    assert not (tmp_path / "recorded").exists()


def test_too_large_a_run_names_its_largest_findings_and_leaves_the_last_one(tmp_path):
    before = keep(tmp_path).read_bytes()
    large = [finding("small.one"), finding("large.one") | {"values": {"rows": ["x" * 99] * 14_000}}, finding("next.one") | {"values": {"rows": "y" * 200_000}}]
    with pytest.raises(CollectionError, match=r"[12],\d+,\d+ B.*: large.one [\d,]+ B, next.one") as error:
        keep(tmp_path, found=large)
    assert "fewer rows" in error.value.next_step
    with pytest.raises(CollectionError, match="no notebook stated"):
        keep(tmp_path, found=[])
    assert (tmp_path / "recorded/h100/evidence.json").read_bytes() == before


def test_the_limit_holds_to_the_byte(tmp_path):
    full = finding("full.one") | {"values": {"text": ""}}
    room = record.LARGEST - keep(tmp_path, found=[full]).stat().st_size
    assert keep(tmp_path, found=[full | {"values": {"text": "x" * room}}]).stat().st_size == record.LARGEST
    with pytest.raises(CollectionError, match="1,500,001 B"):
        keep(tmp_path, found=[full | {"values": {"text": "x" * (room + 1)}}])


@given(some.sampled_from(["{}", "{}/a/b.cu", "in {}/c: no", "file={}", "({})"]), some.sampled_from([record.REPOSITORY, sys.prefix, "~"]))
def test_a_path_of_this_machine_is_not_kept(form, folder):
    folder = str(record.Path.home() if folder == "~" else folder)
    told = json.dumps(record.portable({form.format(folder): [form.format(folder), 3]}))
    assert folder not in told and json.loads(told) != {}
    assert record.portable(f"https://example.org{folder}") == f"https://example.org{folder}"


def test_lines_of_source_are_not_passed_on():
    assert record.portable({"cases": [{"line": 3, "code": "theirs = 1"}]}) == {"cases": [{"line": 3}]}
    for path in (record.REPOSITORY / "outputs/recorded").glob("*/evidence.json"):
        assert '"code":' not in path.read_text()


def test_a_run_is_recorded_although_a_notebook_fails(notebooks, tmp_path):
    folder = notebooks(_01_good=GOOD, _02_raises=["# Raises", GOOD[2].replace("good.one", "bad.one"), "open('nowhere')"])
    done = run(folder, tmp_path / "out", "record", "--note", "in a test", "ours", seconds=180)
    assert done.returncode == 1 and "FAILED 02-raises, cell 3: FileNotFoundError" in done.stdout
    kept = record.read(tmp_path / "out/recorded/ours/evidence.json")
    assert {each["id"]: each["recorded"] for each in kept["findings"]} == {"good.one": True, "bad.one": True}
    described = kept["run"]
    assert described["name"] == "ours" and described["note"] == "in a test" and [(each["notebook"], each["cell"]) for each in described["failed"]] == [("02-raises", 3)]
    assert described["toolchain"]["from"] in ("pinned", "SM12X_CUDA_HOME") and described["toolchain"]["version"][:2] == "13" and described["missing"] == {}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"recorded"}, "executed notebooks are not kept"


def test_an_interrupt_leaves_the_last_recording(notebooks, tmp_path):
    folder = notebooks(_01_slow=["# Slow", "import time\ntime.sleep(600)"])
    (tmp_path / "out/recorded/ours").mkdir(parents=True)
    (tmp_path / "out/recorded/ours/evidence.json").write_text("the last good one")
    words, keywords = command("--notebooks", folder, "record", "ours", outputs=tmp_path / "out")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords)
    deadline = time.monotonic() + 90
    while not kernels_of(process) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130 and "the last recording is as it was" in output
    assert (tmp_path / "out/recorded/ours/evidence.json").read_text() == "the last good one"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["recorded"]


def test_a_bad_name_is_refused_before_anything_runs(tmp_path):
    done = run("notebooks", tmp_path / "out", "record", "--", "../up", seconds=20)
    assert done.returncode == 1 and "cannot be the name" in done.stdout and "make record NAME=" in done.stdout


def test_a_subject_that_cannot_be_had_is_said_and_a_damaged_one_is_fetched_again(index, monkeypatch, capsys, caplog):  # noqa: F811
    _, pinned = index
    nowhere = wheels.Wheel("nowhere", "2.0", "any", "subject", "nowhere-2.0-py3-none-any.whl", 1, "0" * 64)
    monkeypatch.setattr(wheels, "pins", lambda: [nowhere, pinned])
    monkeypatch.setattr(tensorrt_llm, "find", lambda: "a checkout")
    missing = commands.fetch()
    said = " ".join(capsys.readouterr().out.split())
    assert list(missing) == ["nowhere==2.0"] and "pip could not fetch" in missing["nowhere==2.0"]
    assert "nowhere==2.0 CANNOT BE HAD" in said and "pkg==1.0 fetched" in said and "next: check the network" in said
    assert commands.fetch(), "make test fetches strictly"
    right = pinned.path.read_bytes()
    pinned.path.write_bytes(b"?" * pinned.bytes)
    wheels.wheel.cache_clear()
    assert list(commands.fetch()) == ["nowhere==2.0"] and pinned.path.read_bytes() == right
    assert "wrong hash" in caplog.text and "fetched again" in caplog.text


def test_where_the_index_never_answers_the_rest_is_not_asked_for_and_an_interrupt_ends_the_wait(index, monkeypatch, tmp_path):  # noqa: F811
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        monkeypatch.setenv("SM12X_CACHE", str(tmp_path / "empty"))
        words, keywords = command("report", outputs=tmp_path / "out")
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords)
        server.settimeout(60)
        with server.accept()[0]:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and "is as it was" in output and time.monotonic() - began < 20
        monkeypatch.setattr(wheels, "PIP", [word.replace("=12", "=1") for word in wheels.PIP])
        monkeypatch.setattr(wheels, "pins", lambda: [wheels.Wheel("pkg", f"{i}.0", "any", "subject", f"pkg-{i}.0-py3-none-any.whl", 1, f"{i}") for i in range(20)])
        monkeypatch.setattr(tensorrt_llm, "find", lambda: "a checkout")
        began = time.monotonic()
        missing = commands.fetch()
        assert len(missing) == 20 and all("does not answer" in reason for reason in missing.values()) and time.monotonic() - began < 15


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_a_committed_recording_is_small_provenanced_and_of_no_machine_path(path):
    assert [each.name for each in path.iterdir()] == ["evidence.json"]
    kept = comparison.read(path)
    assert (path / "evidence.json").stat().st_size <= record.LARGEST and kept["run"]["name"] == path.name
    assert all(each["recorded"] for each in kept["findings"])
    for each in kept["findings"]:
        if each["tier"] in ("gpu", "sm12x"):
            assert each["values"]["as found"]["device"] and each["values"]["as found"]["driver"], each["id"]
            assert kept["run"]["machine"]["gpus"], "a GPU finding of a machine without one"
    text = (path / "evidence.json").read_text()
    assert not (found := re.search(r"(?<![\w.])/(?:work|root|home|farm|tmp|mnt|Users)/[\w.]", text)), found
    assert "#include" not in text and "Copyright (c)" not in text, "source text of others"


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_what_the_prose_says_of_the_recorded_gpus_is_what_they_answered(name):
    kept = record.read(record.REPOSITORY / "outputs/recorded" / name / "evidence.json")
    shown = {row["shows"]: row for row in kept["findings"] if row["id"] == "fp4-gemm.symptom-here" for row in row["values"]["failures"]}
    assert shown["too large"]["asked"] == "cudaErrorInvalidValue" and shown["another architecture"]["image"] == "cudaErrorNoKernelImageForDevice"
    assert all(row["initialize"] == "Error Internal" and row["left"] == "cudaSuccess" for row in shown.values())
