"""What NVIDIA's own reader of fatbins lists in a file, beside what `images` reads."""

import re
from collections import Counter, namedtuple

from lib.instruments import images

LISTED = re.compile(r"^(ELF|PTX) file +\d+: .*\.sm_(\w+)\.", re.MULTILINE)
KIND = {"ELF": "cubin", "PTX": "ptx"}

# Counters of (kind, target as 120f): of `images`, of cuobjdump without -all, and with it. What it
# ended with, if in error, and whether, with -all, it lists as many images of each SM as `images`.
Comparison = namedtuple("Comparison", "ours linked everything error same")


def compare(file, toolchain):
    """Hold the images of a file (Path) against cuobjdump's lists (`Comparison`).

    It prints ``sm_120`` for machine code of ``sm_120f`` (of PTX it prints the f), and without -all
    it leaves relocatable images out where there are linked ones. Of images that some nvcc 12 made
    it says "Invalid ELF" and stops (bitsandbytes 0.48.2, CUDA 12.0 to 12.2).
    """
    def listed(*options):
        done = toolchain.run("cuobjdump", *options, "-lelf", "-lptx", file)
        error = re.search(r"cuobjdump fatal +: (.*)", done.stdout + done.stderr)
        found = Counter((KIND[kind], target) for kind, target in LISTED.findall(done.stdout))
        return found, error[1] if error else ""

    ours, plain = Counter(), Counter()
    for each in images.read(file):
        if each.kind in KIND.values():
            ours[each.kind, f"{each.sm}{each.suffix}"] += 1
            suffix = each.suffix if each.kind == "ptx" else each.suffix.strip("f")
            plain[each.kind, f"{each.sm}{suffix}"] += 1
    (linked, _), (everything, error) = listed(), listed("-all")
    return Comparison(ours, linked, everything, error, plain == everything)
