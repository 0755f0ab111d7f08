"""What lies in the slots of a KV cache: a ledger of keys, or blocks of memory with contents."""

import functools
import mmap
import struct
import tempfile

import numpy as np
import pandas as pd

PAGE = mmap.PAGESIZE


class Ledger:
    """Which key's contents each slot holds: storage without the storage."""

    def __init__(self, slots):
        self.slots = [None] * slots

    def write(self, slot, key):
        """Put the contents of a key into a slot."""
        self.slots[slot] = key

    def copy(self, source, target):
        """Copy what lies in one slot to another."""
        self.slots[target] = self.slots[source]

    def holds(self, slot, key):
        """Whether a slot holds the contents of a key."""
        return self.slots[slot] == key


@functools.lru_cache(100_000)
def contents(key, words):
    """The contents of a key: `words` numbers drawn with the key as seed (int64 array)."""
    return np.random.default_rng(key).integers(0, 2**31, words, dtype=np.int64)


class Blocks(Ledger):
    """Real blocks: every key has contents of its own, written, copied and compared in memory.

    The pools are int64 of shape (blocks, words): numpy arrays, or torch tensors on any device with
    ``torch.from_numpy`` as `convert`.
    """

    def __init__(self, primary, secondary, convert=np.asarray):
        self.slots, self.words, self.convert = [*primary, *secondary], primary.shape[1], convert

    def write(self, slot, key):
        self.slots[slot][:] = self.convert(contents(key, self.words))

    def copy(self, source, target):
        self.slots[target][:] = self.slots[source]

    def holds(self, slot, key):
        block = self.slots[slot]
        return np.array_equal(block.cpu() if hasattr(block, "cpu") else block,
                              contents(key, self.words))


def pages(blocks, file=None):
    """A pool of page-sized blocks, of its own or mapped to a file (int64, (blocks, words))."""
    memory = mmap.mmap(file.fileno() if file else -1, blocks * PAGE)
    pool = np.frombuffer(memory, np.int64).reshape(blocks, -1)
    pool[:] = 0
    return pool


def arrangements(blocks):
    """Three ways to lay out two pools of `blocks` blocks (dict of name to a pair of pools).

    ``two allocations`` is TensorRT-LLM's; mapped twice, slot i of either pool is the same page.
    """
    halves = pages(2 * blocks)
    with tempfile.TemporaryFile() as file:
        file.truncate(blocks * PAGE)
        twice = pages(blocks, file), pages(blocks, file)
    return {"two allocations": (pages(blocks), pages(blocks)),
            "one allocation, two halves": (halves[:blocks], halves[blocks:]),
            "one memory, mapped twice": twice}


def shared(layouts):
    """How much memory two pools share, by the kernel's page map and by writing (DataFrame).

    ``slots written through`` change when the other pool is written. The pools are overwritten.
    """
    rows = []
    for name, (primary, secondary) in layouts.items():
        primary[:], secondary[:], seen = 1, 2, frames(primary)
        rows.append({"arrangement": name, "blocks": len(primary), "pages seen": len(seen),
                     "pages in both pools": len({*seen} & {*frames(secondary)}),
                     "slots written through": int((primary[:, 0] == 2).sum())})
    return pd.DataFrame(rows)


def frames(pool):
    """The physical page frames behind a pool, in order; empty where the kernel hides them."""
    first, found = pool.ctypes.data // PAGE, []
    try:
        with open("/proc/self/pagemap", "rb") as table:
            table.seek(8 * first)
            for (entry,) in struct.iter_unpack("Q", table.read(8 * (pool.nbytes // PAGE))):
                found.append(entry & (1 << 55) - 1)
    except OSError:
        return []
    return found if all(found) else []
