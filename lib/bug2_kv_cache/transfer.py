"""KV blocks between pools on a real GPU: copy bandwidth, the cost of allocating, what offloads take from a kernel, and stale blocks.

Every number is a median of at least 20 repeats after warm-up, with its quartiles. No buffer is larger than a sixteenth of the free
memory, which matters most for managed memory and for integrated GPUs, where the driver and the rest of the machine share it.
"""

import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import psutil
import torch

from lib.bug2_kv_cache import designs
from lib.errors import CollectionError
from lib.instruments import driver, timing

ALLOCATORS = ("device", "pinned", "pageable", "managed")
MIB = 1 << 20
SHARE = 16  # of the free memory a buffer may take one such part


def limit():
    """The most bytes that one buffer may have: a `SHARE`-th of the free memory of GPU and host, whichever has less."""
    return min(torch.cuda.mem_get_info()[0], psutil.virtual_memory().available) // SHARE


class Pointer:
    """Memory of the driver's as torch takes it (``__cuda_array_interface__``, uint8)."""

    def __init__(self, address, nbytes):
        self.__cuda_array_interface__ = {"shape": (nbytes,), "typestr": "|u1", "data": (int(address), False), "version": 3}


def allocate(allocator, nbytes):
    """Allocate without touching: the address (int), and what frees it (callable)."""
    from cuda.bindings import driver as cuda

    if allocator == "pageable":
        memory = np.empty(nbytes, np.uint8)
        return memory.ctypes.data, lambda: memory.resize(0, refcheck=False)
    if allocator == "pinned":
        address = int(driver.value(cuda.cuMemHostAlloc(nbytes, 0)))
        return address, lambda: driver.value(cuda.cuMemFreeHost(address))
    if allocator == "managed":
        address = int(driver.value(cuda.cuMemAllocManaged(nbytes, cuda.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value)))
    elif allocator == "device":
        address = int(driver.value(cuda.cuMemAlloc(nbytes)))
    else:
        raise CollectionError(f"unknown allocator {allocator!r}", f"use one of {', '.join(ALLOCATORS)}")
    return address, lambda: driver.value(cuda.cuMemFree(address))


@contextmanager
def buffer(allocator, nbytes):
    """Memory of an allocator for the length of a block (uint8 tensor of `nbytes`), touched once.

    Raises
    ------
    CollectionError
        If it is larger than `limit`, or the allocator is unknown.
    """
    torch.cuda.init()
    torch.zeros(1, device="cuda")  # makes the device's primary context current for the driver calls
    if nbytes > (most := limit()):
        raise CollectionError(f"a buffer of {nbytes:,} bytes is more than this measurement may take ({most:,})",
                              "use smaller blocks, or free memory")
    if allocator == "pageable":
        yield torch.zeros(nbytes, dtype=torch.uint8)
    elif allocator == "pinned":
        yield torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)
    else:
        address, free = allocate(allocator, nbytes)
        try:
            yield torch.as_tensor(Pointer(address, nbytes), device="cuda").zero_()
            torch.cuda.synchronize()
        finally:
            free()


def copies(source, target, block):
    """A callable that copies `source` to `target` block by block, asynchronously where the memory allows it."""
    pairs = list(zip(target.split(block), source.split(block)))

    def run():
        for to, given in pairs:
            to.copy_(given, non_blocking=True)

    return run


def bandwidth(blocks=(MIB // 4, MIB, 4 * MIB, 16 * MIB, 64 * MIB), total=256 * MIB, repeats=timing.REPEATS):
    """Copy bandwidth between a primary pool in device memory and a secondary pool of each allocator.

    Returns
    -------
    DataFrame
        A row per allocator, direction (``offload``: to the secondary pool) and block size in bytes: GB/s of payload.
    """
    total = min(total, limit())
    rows = []
    for allocator in ALLOCATORS:
        with buffer("device", total) as primary, buffer(allocator, total) as secondary:
            for block in (size for size in blocks if size <= total):
                for direction, action in (("offload", copies(primary, secondary, block)), ("onboard", copies(secondary, primary, block))):
                    speeds = [total / 1e6 / ms for ms in timing.elapsed(action, repeats)]
                    rows.append({"allocator": allocator, "direction": direction, "block (B)": block,
                                 **timing.spread(speeds, "GB/s"), "repeats": repeats})
    return pd.DataFrame(rows)


def allocation(sizes=(16 * MIB, 64 * MIB, 256 * MIB), repeats=timing.REPEATS):
    """What a secondary pool costs by allocator: to allocate, to offload into for the first and the second time, and to free.

    Returns
    -------
    DataFrame
        A row per allocator and size: milliseconds of the host's clock, medians, with quartiles for the allocation.
    """
    from cuda.bindings import driver as cuda

    rows = []
    for size in (each for each in sizes if each <= limit()):
        with buffer("device", size) as source:
            for allocator in ALLOCATORS:
                samples = []
                for _ in range(timing.WARM + repeats):
                    marks = [time.perf_counter()]
                    address, free = allocate(allocator, size)
                    marks.append(time.perf_counter())
                    for _ in range(2):
                        driver.value(cuda.cuMemcpy(address, source.data_ptr(), size))
                        torch.cuda.synchronize()
                        marks.append(time.perf_counter())
                    free()
                    marks.append(time.perf_counter())
                    samples.append(1e3 * np.diff(marks))
                took = np.array(samples[timing.WARM:]).T
                after = dict(zip(("first offload (ms)", "second offload (ms)", "free (ms)"), np.median(took[1:], axis=1)))
                rows.append({"allocator": allocator, "bytes": size, **timing.spread(took[0], "allocate (ms)"), **after, "repeats": repeats})
    return pd.DataFrame(rows)


def interference(size=256 * MIB, block=16 * MIB, repeats=timing.REPEATS):
    """How much a stream of offloads slows a kernel that is bound by memory bandwidth (it reads and writes `size` bytes, 8 times).

    The kernel runs alone first, then under offloads. A repeat counts only if the offloads outlasted the kernel.

    Returns
    -------
    DataFrame
        A row per allocator of the secondary pool: the kernel's GB/s alone and under offloads, its slowdown, and the offloads' GB/s
        (none where the offloads never outlasted the kernel).
    """
    size = min(size, limit()) // block * block
    if size < block:
        raise CollectionError(f"free memory leaves room for less than a block of {block:,} bytes", "free memory, or use smaller blocks")
    side, rows = torch.cuda.Stream(), []
    with buffer("device", size) as first, buffer("device", size) as second, buffer("device", block) as given:
        def kernel(read=first.view(torch.float32), write=second.view(torch.float32)):
            for _ in range(8):
                torch.add(read, 1, out=write)

        alone = timing.elapsed(kernel, repeats)
        for allocator in ("pinned", "managed", "device"):
            with buffer(allocator, block) as target:
                one = np.median(timing.elapsed(lambda: target.copy_(given, non_blocking=True), repeats))
                many = min(int(8 * np.median(alone) / one) + 8, 2000)
                under, speeds = [], []
                for _ in range(timing.WARM + repeats):
                    marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
                    torch.cuda.synchronize()
                    with torch.cuda.stream(side):
                        marks[0].record()
                        for _ in range(many):
                            target.copy_(given, non_blocking=True)
                        marks[1].record()
                    marks[2].record()
                    kernel()
                    marks[3].record()
                    torch.cuda.synchronize()
                    if marks[3].elapsed_time(marks[1]) > 0:
                        under.append(marks[2].elapsed_time(marks[3]))
                        speeds.append(many * block / 1e6 / marks[0].elapsed_time(marks[1]))
                slowdown = np.array(under[timing.WARM:] or [np.nan]) / np.median(alone)
                traffic = 8 * 2 * size / 1e6 / np.median(alone)
                rows.append({"allocator": allocator, "kernel alone (GB/s)": traffic,
                             "kernel under offloads (GB/s)": traffic / np.median(slowdown), **timing.spread(slowdown, "slowdown"),
                             "offloads (GB/s)": np.median(speeds[timing.WARM:] or [np.nan]), "repeats that overlapped": len(under[timing.WARM:])})
    return pd.DataFrame(rows)


def stale(trace, blocks=40, words=512, allocators=ALLOCATORS, batch=2):
    """Wrong blocks in GPU memory: a primary pool on the device, a secondary one of each allocator, every design replayed on real contents.

    Returns
    -------
    DataFrame
        `designs.survival`'s rows, with the column ``secondary pool``.
    """
    tables, nbytes = [], 8 * blocks * words
    for allocator in allocators:
        with buffer("device", nbytes) as primary, buffer(allocator, nbytes) as secondary:
            pools = (pool.view(torch.int64).view(blocks, words) for pool in (primary, secondary))
            tables.append(designs.survival(trace, *pools, batch, convert=torch.from_numpy).assign(**{"secondary pool": allocator}))
    return pd.concat(tables, ignore_index=True)
