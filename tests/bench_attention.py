"""The bars of notebook 05: the inventory of all cubins, against cuobjdump file by file."""

import tempfile
import time
from pathlib import Path

from lib.instruments import cubins, toolchain
from lib.subjects import wheels


def inventory():
    """Rows {bar, measured, limit, unit, ok}: seconds for all cubins of a cached wheel, and how many times cuobjdump's rate that is."""
    wheel, tc = wheels.wheel("flashinfer-cubin", "0.6.6"), toolchain.find()
    took = []
    for _ in range(3):
        start = time.perf_counter()
        table = cubins.inventory(wheel)
        took.append(time.perf_counter() - start)
    chosen = cubins.sample(table, 2)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for number, data in enumerate(cubins.read(wheel, *chosen["member"])):
            path = Path(folder, f"{number}.cubin")
            path.write_bytes(data)
            tc.run("cuobjdump", "-elf", path)
        each = (time.perf_counter() - start) / len(chosen)
    seconds, times = min(took), each * len(table) / min(took)
    return [{"bar": f"inventory of {len(table):,} cubins", "measured": seconds, "limit": 2, "unit": "s", "ok": seconds <= 2},
            {"bar": f"the same, rate against cuobjdump per file ({len(chosen)} files)", "measured": times, "limit": 25, "unit": "times",
             "ok": times >= 25}]

