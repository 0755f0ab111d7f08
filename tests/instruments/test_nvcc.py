"""nvcc over the headers of a pinned wheel, sent to another machine."""

import pickle
from pathlib import Path

from lib.instruments import nvcc
from lib.subjects import wheels


def test_a_front_end_is_sent_by_names_and_finds_the_wheel_of_the_machine_that_it_comes_to(monkeypatch, tmp_path):
    here = nvcc.of_flashinfer("0.6.6", "sm_120a")
    sent, tree = pickle.dumps(here), wheels.source("flashinfer-python", "0.6.6")
    assert pickle.loads(sent) == here and str(tree).encode() not in sent
    monkeypatch.setattr(wheels, "source", lambda name, version: tmp_path / name / version)
    there = pickle.loads(sent)
    assert (there.identity, there.target) == (here.identity, "sm_120a")
    assert there.headers == tmp_path / "flashinfer-python/0.6.6" / here.headers.relative_to(tree)
    assert [path.name for path in there.extensions] == [path.name for path in here.extensions]


def test_one_over_headers_of_no_pinned_wheel_goes_with_its_folders():
    own = nvcc.FrontEnd(Path("/own/include"), (), "none", "sm_121a")
    assert pickle.loads(pickle.dumps(own)) == own
