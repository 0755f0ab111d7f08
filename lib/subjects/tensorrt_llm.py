"""TensorRT-LLM where it can be had: installed, a checkout, or a fetch of the pinned revision."""

import os
import shutil
import subprocess
from pathlib import Path

from lib import cache
from lib.doctor import places
from lib.errors import CollectionError

REPOSITORY = "https://github.com/NVIDIA/TensorRT-LLM"
REVISION = "b35ac1b64368513d215c57d2ed01d62d910df8da"
FOLDERS = ("tensorrt_llm/_torch", "cpp/tensorrt_llm", "cpp/include", "cpp/kernels/fmha_v2")
FETCH_SECONDS = 120


def find(source=""):
    """The TensorRT-LLM to examine: a folder with ``tensorrt_llm/`` in it (Path), or None.

    It is `source`, ``TRTLLM_SRC``, the fetched revision, or the installed package, in this order;
    an error only if a checkout is named and is none.
    """
    if asked := source or os.environ.get("TRTLLM_SRC"):
        if not Path(asked, "tensorrt_llm").is_dir():
            raise CollectionError(
                f"{asked} is not a TensorRT-LLM checkout: it has no folder tensorrt_llm",
                "name the top folder of the checkout, or leave trtllm_src and TRTLLM_SRC empty")
        return Path(asked)
    fetched = cache.held("tensorrt-llm", [REPOSITORY, REVISION])  # if every byte is as it was
    return fetched.folder if fetched else next(iter(places.installed("tensorrt_llm")), None)


def fetch(repository=REPOSITORY, revision=REVISION):
    """Fetch the folders that notebooks read, at one revision (Path); None without a network, or
    into a cache that is read-only."""
    quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}

    def checkout(folder):
        def git(*arguments):
            subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True,
                           timeout=FETCH_SECONDS, env=quiet)

        git("init", "--quiet")
        git("remote", "add", "origin", repository)
        git("sparse-checkout", "set", *FOLDERS)
        git("fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", revision)
        git("checkout", "--quiet", "FETCH_HEAD")
        shutil.rmtree(folder / ".git")

    try:
        return cache.entry("tensorrt-llm", [repository, revision], checkout).folder
    except (subprocess.SubprocessError, FileNotFoundError):
        return None
    except CollectionError as error:
        if error.__cause__.errno in cache.NO_WRITE:
            return None
        raise
