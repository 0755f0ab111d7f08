"""KV blocks between pools on a real GPU: copies, allocation, a kernel beside, stale blocks.

Every number is a median of `timing.REPEATS` repeats after warm-up, with its quartiles. No buffer
takes more than a sixteenth of the free memory: managed memory and integrated GPUs share it.
"""

import time
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import torch
from cuda.bindings import driver as cuda

from lib.bug2_kv_cache import designs
from lib.errors import CollectionError
from lib.instruments import driver, timing

ALLOCATORS = ("device", "pinned", "pageable", "managed")
MIB = 1 << 20


def limit():
    """The most bytes of one buffer: a sixteenth of what GPU or host, who has less, has free."""
    return min(torch.cuda.mem_get_info()[0], psutil.virtual_memory().available) // 16


def allocate(allocator, nbytes):
    """Allocate by one of `ALLOCATORS`, untouched: the address (int), and what frees it."""
    if allocator == "pageable":
        memory = np.empty(nbytes, np.uint8)
        return memory.ctypes.data, lambda: memory.resize(0, refcheck=False)
    everywhere = cuda.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value
    ways = {"pinned": (cuda.cuMemHostAlloc, (0,), cuda.cuMemFreeHost),
            "managed": (cuda.cuMemAllocManaged, (everywhere,), cuda.cuMemFree),
            "device": (cuda.cuMemAlloc, (), cuda.cuMemFree)}
    take, flags, give_back = ways[allocator]
    address = int(driver.value(take(nbytes, *flags)))
    return address, lambda: driver.value(give_back(address))


@contextmanager
def buffer(allocator, nbytes):
    """Memory of an allocator inside a block (uint8 tensor), touched once; at most `limit`."""
    torch.zeros(1, device="cuda")  # makes the primary context current for the driver's calls
    if nbytes > (most := limit()):
        raise CollectionError(f"{nbytes:,} bytes is more than this measurement may take, {most:,}",
                              "use smaller blocks, or free memory")
    if allocator in ("pageable", "pinned"):
        yield torch.zeros(nbytes, dtype=torch.uint8, pin_memory=allocator == "pinned")
        return
    address, free = allocate(allocator, nbytes)
    found = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3}
    try:
        pointer = SimpleNamespace(__cuda_array_interface__=found)
        yield torch.as_tensor(pointer, device="cuda").zero_()
        torch.cuda.synchronize()
    finally:
        free()


def copies(source, target, block):
    """A callable that copies `source` to `target` by blocks, asynchronously where it can."""
    pairs = list(zip(target.split(block), source.split(block)))
    return lambda: [to.copy_(given, non_blocking=True) for to, given in pairs]


def bandwidth(blocks=(MIB // 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB), total=256 * MIB):
    """GB/s of copies between a pool in device memory and one of each allocator (DataFrame).

    By direction (``offload``: to the secondary pool) and size of the blocks, in bytes.
    """
    total, rows = min(total, limit()), []
    for allocator in ALLOCATORS:
        with buffer("device", total) as primary, buffer(allocator, total) as secondary:
            ways = {"offload": (primary, secondary), "onboard": (secondary, primary)}
            for block, way in product((size for size in blocks if size <= total), ways):
                took = timing.elapsed(copies(*ways[way], block))
                rows.append({"allocator": allocator, "direction": way, "block (B)": block,
                             **timing.spread([total / 1e6 / ms for ms in took], "GB/s"),
                             "repeats": timing.REPEATS})
    return pd.DataFrame(rows)


def allocation(sizes=(16 * MIB, 64 * MIB, 256 * MIB)):
    """Milliseconds to allocate a pool, to offload into it twice, and to free it (DataFrame)."""
    def cost(allocator, source):
        marks = [time.perf_counter()]
        address, free = allocate(allocator, source.nbytes)
        marks.append(time.perf_counter())
        for _ in range(2):
            driver.value(cuda.cuMemcpy(address, source.data_ptr(), source.nbytes))
            torch.cuda.synchronize()
            marks.append(time.perf_counter())
        free()
        return 1e3 * np.diff([*marks, time.perf_counter()])

    rows = []
    for size in (each for each in sizes if each <= limit()):
        with buffer("device", size) as source:
            for allocator in ALLOCATORS:
                samples = [cost(allocator, source) for _ in range(timing.WARM + timing.REPEATS)]
                taken, first, second, freed = np.transpose(samples[timing.WARM:])
                rows.append({"allocator": allocator, "bytes": size,
                             **timing.spread(taken, "allocate (ms)"),
                             "first offload (ms)": np.median(first),
                             "second offload (ms)": np.median(second),
                             "free (ms)": np.median(freed), "repeats": timing.REPEATS})
    return pd.DataFrame(rows)


def overlapped(kernel, offload, many, side):
    """Milliseconds of a kernel and of offloads on another stream; None if the kernel ends last."""
    first, last, begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(4))
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        first.record()
        for _ in range(many):
            offload()
        last.record()
    begin.record()
    kernel()
    end.record()
    torch.cuda.synchronize()
    outlasted = end.elapsed_time(last) > 0
    return (begin.elapsed_time(end), first.elapsed_time(last)) if outlasted else None


def interference():
    """How much offloads slow a kernel bound by memory bandwidth, by allocator (DataFrame).

    It reads and writes 256 MiB 8 times, alone first, then under offloads of 16 MiB. A repeat
    counts only if the offloads outlasted the kernel; where none did, the slowdown is NaN.
    """
    block = 16 * MIB
    size = min(256 * MIB, limit()) // block * block
    if size < block:
        raise CollectionError(f"free memory leaves room for less than a block of {block:,} bytes",
                              "free memory")
    side, rows = torch.cuda.Stream(), []
    with (buffer("device", size) as first, buffer("device", size) as second,
          buffer("device", block) as given):
        def kernel(read=first.view(torch.float32), write=second.view(torch.float32)):
            for _ in range(8):
                torch.add(read, 1, out=write)

        alone = np.median(timing.elapsed(kernel))
        traffic = 8 * 2 * size / 1e6 / alone
        for allocator in ("pinned", "managed", "device"):
            with buffer(allocator, block) as target:
                offload = copies(given, target, block)
                many = min(int(8 * alone / np.median(timing.elapsed(offload))) + 8, 2000)
                runs = [overlapped(kernel, offload, many, side)
                        for _ in range(timing.WARM + timing.REPEATS)]
                counted = list(filter(None, runs))[timing.WARM:]
                beside, moving = np.array(counted or [(np.nan, np.nan)]).T
                slowdown = beside / alone
                rows.append({"allocator": allocator, "kernel alone (GB/s)": traffic,
                             "kernel under offloads (GB/s)": traffic / np.median(slowdown),
                             **timing.spread(slowdown, "slowdown"),
                             "offloads (GB/s)": np.median(many * block / 1e6 / moving),
                             "repeats that overlapped": len(counted)})
    return pd.DataFrame(rows)


def stale(trace, blocks=40, words=512, allocators=ALLOCATORS):
    """`designs.survival` in GPU memory, with the column ``secondary pool``: its allocator."""
    tables, nbytes = [], 8 * blocks * words
    for allocator in allocators:
        with buffer("device", nbytes) as primary, buffer(allocator, nbytes) as secondary:
            pools = (pool.view(torch.int64).view(blocks, words) for pool in (primary, secondary))
            table = designs.survival(trace, *pools, convert=torch.from_numpy)
            tables.append(table.assign(**{"secondary pool": allocator}))
    return pd.concat(tables, ignore_index=True)
