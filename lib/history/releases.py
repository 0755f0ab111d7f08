"""Wheels of FlashInfer, asked: what the doctor says of their files, and what their tuner does."""

import tempfile
import threading
import zipfile
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from packaging.version import Version

from lib import cache
from lib.bug1_shared_memory import tiles
from lib.bug4_autotuner import autotuner
from lib.doctor import examine, places, rules, text
from lib.errors import CollectionError
from lib.subjects import index, ranges, vendored, wheels

PROJECT, FIRST, SM = "flashinfer-python", "0.5.0rc1", 121
HEADERS = f"{vendored.DATA}/cutlass/include"
EXTENSIONS = f"{vendored.INTERNAL}/tensorrt_llm/cutlass_extensions/include/cutlass_extensions"
# The epilogue of the fused finalize, and what it includes; up to 0.5.2 it was another one.
SCATTER = [f"{EXTENSIONS}/{name}.hpp" for name in (
    "epilogue/fusion/sm90_visitor_scatter", "arch/copy_red_global", "util/gather_tensor")]
# Besides what the doctor's rules name: what says a version, what the tuner imports, dense kernels.
MORE = ["*.dist-info/METADATA", f"{HEADERS}/cutlass/version.h",
        f"{vendored.DENSE_RUNNERS}/*fp[48]_gemm*_sm120.h", "flashinfer/autotuner/*.py",
        "flashinfer/autotune_cache.py", "flashinfer/tactics_blocklist.py", "flashinfer/version.py",
        "flashinfer/_build_meta.py"]
# Two inputs whose first dimensions are linked, in bounds: a bucket of 256 is for both of the 300.
LINKED, MENDED = (((300, 64), (300, 32)), [((0, 1), (0, 0))]), "((256, 64), (256, 32))"
BLOCK = 1 << 17  # bytes of one range: a wheel takes about 20
# What an answer depends on besides the modules that are imported here.
DOCTOR = Path(rules.__file__).parent
JUDGES = {"judges": [*sorted(DOCTOR.glob("*.py")), DOCTOR / "rules.toml",
                     Path(autotuner.__file__).with_name("cases.toml")]}
# A tuner that is loaded stands in for installed modules; and Python 3.11 parses in one thread at a
# time, or fails (https://github.com/python/cpython/issues/106905).
ALONE = threading.Lock()


def published():
    """The wheels of `PROJECT` on the index since `FIRST` (list of `index.File`), by upload."""
    found = [each for each in index.files(PROJECT) if each.file.endswith(".whl")
             and Version(each.version) >= Version(FIRST)]
    return sorted(found, key=lambda each: (each.uploaded, Version(each.version)))


def named():
    """Patterns of the files that are asked for: those of the doctor's rules, and `MORE` (list)."""
    tops = {"FlashInfer": "", "CUTLASS": f"{HEADERS}/"}
    found = {top + name.replace("//", "/*") for rule in rules.RULES for product, top in tops.items()
             if product in rule["products"] for names in rule["files"].values() for name in names}
    return sorted(name for name in found if name.startswith("flashinfer/")) + MORE


def fetched(sha256):
    """What a wheel of the index says, read in parts and asked once (dict, of `judge`)."""
    def ask(_):
        remote = next(each for each in published() if each.sha256 == sha256)
        with (tempfile.TemporaryDirectory(prefix="sm12x-") as folder,
              ranges.parts(remote, block=BLOCK) as zipped):
            tree = Path(folder).resolve()
            for each in zipped.infolist():
                target = (tree / each.filename).resolve()
                asked = any(fnmatch(each.filename, pattern) for pattern in patterns)
                if asked and target.is_relative_to(tree):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with ranges.member(zipped, each.filename) as stream:
                        target.write_bytes(stream.read(text.LARGEST + 1))
            with ALONE:
                return judge(tree, zipped.infolist(), remote.version)

    patterns = named()
    return cache.remember("history", {"parts of": sha256, "named": patterns} | JUDGES, ask).value


def whole(version):
    """What a pinned wheel says (dict, of `judge`): all of it, unpacked, every byte checked."""
    def ask(_):
        with zipfile.ZipFile(wheels.wheel(PROJECT, version)) as zipped, ALONE:
            return judge(wheels.source(PROJECT, version), zipped.infolist(), version)

    pinned = wheels.pin(PROJECT, version).sha256
    return cache.remember("history", {"whole": pinned} | JUDGES, ask).value


def judge(tree, members, version):
    """What FlashInfer says that lies in a tree (dict); `members` are those of its wheel.

    ``checks`` of the doctor's (list of dict), for SM121; ``look-up`` and ``warm-up`` (dict of case
    to outcome), and the key for `LINKED`; ``kernels`` of SM120 (list of dict, `gemm.Gemm`'s
    fields), the grouped ones if it has `SCATTER`; ``cutlass``, its version; ``headers`` and
    ``scatter``, digests of CUTLASS's files and of `SCATTER`, by the CRC-32 of each. A
    CollectionError if it states another version, or is laid out in an unknown way.
    """
    def ask(call, *arguments):
        outcome = autotuner.attempt(call, *arguments)
        if outcome.error:
            raise CollectionError(f"{PROJECT} {version} is laid out anew: {outcome.error}",
                                  "have lib/history/releases.py ask for the files that it needs")
        return outcome.value

    found = [places.Place(product, places.version(product, root), root, "")
             for product, root in (("FlashInfer", tree), ("CUTLASS", tree / HEADERS))]
    if found[0].version != version:
        raise CollectionError(f"{PROJECT} {version} says that it is {found[0].version}",
                              ranges.REFUSE)
    checks = [{"bug": answer.bug, "product": answer.product, "what": check.what,
               "verdict": check.verdict, "note": check.note}
              for answer in examine.examine(found, SM) for check in answer.checks]
    tuner, (shapes, dynamic) = ask(autotuner.load, tree), LINKED
    ran = {name: dict(ask(autotuner.survey, tuner, call)[["case", "outcome"]].to_numpy())
           for name, call in (("look-up", autotuner.find), ("warm-up", autotuner.generate))}
    kept = {each.filename: (each.CRC, each.file_size) for each in members}
    headers = sorted(item for item in kept.items() if item[0].startswith(f"{HEADERS}/"))
    scatter = [kept.get(name) for name in SCATTER]
    return {"checks": checks, **ran, "cutlass": found[1].version,
            "linked": str(autotuner.find(tuner, shapes, autotuner.config(tuner, dynamic))),
            "headers": cache.digest(headers),
            "scatter": cache.digest(scatter) if all(scatter) else "",
            "kernels": [asdict(each) for each in ask(tiles.of_flashinfer, tree, "")
                        if all(scatter) or not each.grouped]}
