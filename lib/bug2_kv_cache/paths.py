"""Which path of TensorRT-LLM has a second pool: as it was read, and in its own source."""

import re
import tomllib
from pathlib import Path

import pandas as pd

from lib.subjects import cpp, patches

READ = tomllib.loads(Path(__file__).with_name("paths.toml").read_text())
# What was read of the change and the code around it, the paths in the columns of `survey`.
FACTS, PATHS = pd.DataFrame(READ["fact"]), pd.DataFrame(READ["path"])
MANAGER = "cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp"
EXECUTOR = "tensorrt_llm/_torch/pyexecutor/resource_manager.py"
PATCHES = {kind: f"02-kv-cache.{kind}.tensorrt-llm.diff" for kind in ("published", "revised")}
UNIFIED = re.compile(r"if \(.*(isUnifiedMemorySystem|sharesHostMemory)")


def skipped(code, found):
    """Whether a block around a match in C++ code opens under a test for one memory (bool)."""
    line = code.count("\n", 0, found.start())
    return any(UNIFIED.search(head) for head in cpp.around(code, line))


def copies(code):
    """The copies in kvCacheManager.cpp: ``skipped`` under a test for one memory (DataFrame)."""
    calls = re.finditer(r"mTransferManager->(onboard|offload)\(", code)
    return pd.DataFrame([{"line": code.count("\n", 0, found.start()) + 1, "copy": found[1],
                          "skipped": skipped(code, found)} for found in calls])


def survey(tree):
    """The paths in a tree's own source, as it is and with each patch, as `PATHS` has them.

    Empty without a tree, and where the patches do not fit it: an installed package lacks the files.
    """
    if not tree or any(patches.Patch(name).state(tree) != patches.READY
                       for name in PATCHES.values()):
        return pd.DataFrame()
    rows = []
    for kind, names in [("none", ()), *((kind, [name]) for kind, name in PATCHES.items())]:
        with patches.patched(tree, *names, files=(MANAGER, EXECUTOR)) as copy:
            manager, executor = (Path(copy, name).read_text() for name in (MANAGER, EXECUTOR))
        dropped = re.finditer(r"freeSecondaryMemBytes = 0;", manager)
        both, skips = not any(skipped(manager, found) for found in dropped), copies(manager)
        rows += [(kind, "C++ engine", skips["skipped"].any(), both, MANAGER),
                 (kind, "PyTorch", skips["skipped"].any(),
                  '"host_cache_size": 0' not in executor, EXECUTOR)]
    return pd.DataFrame(rows, columns=["patch", "path", "skips", "second pool", "link"])
