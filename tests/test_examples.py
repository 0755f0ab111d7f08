"""The examples of docstrings, run as they stand: each says what it prints."""

import doctest
import importlib
import inspect

import pytest

from tests.conftest import ROOT

FOUND = [test for path in sorted((ROOT / "lib").rglob("*.py")) if ">>> " in path.read_text()
         for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(
             ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")))
         if test.examples]


@pytest.mark.parametrize("test", FOUND, ids=lambda test: test.name)
def test_an_example_runs_and_prints_what_it_says(test, monkeypatch, tmp_path):
    if test.name.startswith("lib.cache"):  # what it keeps is no one's answer
        monkeypatch.setenv("SM12X_CACHE", str(tmp_path))
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not said, "".join(said)


def test_each_tool_of_the_workbench_has_one():
    from lib import workbench
    tools = {f"{tool.__module__}.{tool.__name__}" for name, tool in vars(workbench).items() if inspect.isfunction(tool)}
    assert tools and tools <= {test.name for test in FOUND}
