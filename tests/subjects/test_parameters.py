"""What a reader may set: types and ranges, in make, in papermill and in a notebook's first cell."""

import subprocess
import sys

import nbformat
import pytest
import yaml

from lib.errors import CollectionError
from lib.subjects import parameters
from tests.conftest import ROOT


def test_numbers_booleans_and_versions_of_the_readers_arrive_as_such():
    given = parameters.parse("n=4  x=0.5 on=true version=0.7.2.post1 path=a=b none= back_ends=trtllm-gen; CUTLASS flashinfer=0.7",
                             ["n", "x", "on", "version", "path", "none", "back_ends", "flashinfer"], "04")
    assert given == {"n": 4, "x": 0.5, "on": True, "version": "0.7.2.post1", "path": "a=b", "none": None, "back_ends": "trtllm-gen; CUTLASS", "flashinfer": "0.7"}


@pytest.mark.parametrize("words, said", [
    ("batch=-3", "from 1 to 1,024"), ("batch=0", "from 1 to 1,024"), ("batch=abc", "from 1 to 1,024"), ("batch=1.5", "from 1 to 1,024"), ("batch=true", "from 1 to"),
    ("context=1e30", "cached tokens"), ("context=1.0e+30", "cached tokens"), ("bandwidth_gb=-1", "more than 0"), ("bandwidth_gb=.nan", "more than 0"),
    ("target_arch=foo", "a target of the compiler"), ("target_arch=sm_121a nonsense", "a target of the compiler"), ("batch=[1", "from 1 to 1,024"),
    ("=3", "write P="), ("x", "write P="), ("target_arh=sm_120a", "target_arch")])
def test_a_parameter_out_of_its_range_is_refused_with_what_is_allowed(words, said):
    with pytest.raises(CollectionError) as error:
        parameters.parse(words, list(parameters.KNOWN), "02-kv-cache")
    assert said in error.value.next_step


def test_every_parameter_of_a_notebook_has_a_range_its_default_keeps_it_and_the_first_cell_checks():
    import papermill
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        found = papermill.inspect_notebook(str(path))
        assert found.keys() <= parameters.KNOWN.keys(), path.stem
        parameters.check({name: yaml.safe_load(each["default"].replace("None", "null")) for name, each in found.items()})
        first = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"][1]
        assert first.endswith("parameters.check(globals())")


def test_papermill_itself_refuses_a_wrong_parameter(tmp_path):
    """Its own command, as for who never heard of make."""
    done = subprocess.run([sys.executable, "-m", "papermill", "--no-progress-bar", "-p", "bandwidth_gb", "-1", ROOT / "notebooks/02-kv-cache.ipynb",
                           tmp_path / "run.ipynb"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode and "bandwidth_gb cannot be -1" in done.stderr and parameters.KNOWN["bandwidth_gb"]["description"] in done.stderr
