"""What lies in the slots of a KV cache: blocks of memory, each with contents of its own."""

import functools
import mmap
import tempfile

import numpy as np
import pandas as pd

PAGE = mmap.PAGESIZE


@functools.lru_cache(100_000)
def contents(key, words):
    """The contents of a key: `words` numbers drawn with the key as seed (int64 array)."""
    return np.random.default_rng(key).integers(0, 2**31, words, dtype=np.int64)


class Blocks:
    """The slots of two pools, where the contents of keys are written, copied and compared.

    The pools are int64 of shape (blocks, words): numpy arrays, or torch tensors on any device with
    ``torch.from_numpy`` as `convert`.
    """

    def __init__(self, primary, secondary, convert=np.asarray):
        self.slots, self.words, self.convert = [*primary, *secondary], primary.shape[1], convert

    def write(self, slot, key):
        """Put the contents of a key into a slot."""
        self.slots[slot][:] = self.convert(contents(key, self.words))

    def copy(self, source, target):
        """Copy what lies in one slot to another."""
        self.slots[target][:] = self.slots[source]

    def holds(self, slot, key):
        """Whether a slot holds the contents of a key."""
        block = self.slots[slot]
        return np.array_equal(block.cpu() if hasattr(block, "cpu") else block,
                              contents(key, self.words))


def pages(blocks, file=None):
    """A pool of page-sized blocks, of its own or mapped to a file (int64, (blocks, words))."""
    memory = mmap.mmap(file.fileno() if file else -1, blocks * PAGE)
    return np.frombuffer(memory, np.int64).reshape(blocks, -1)


def arrangements(blocks):
    """Three ways to lay out two pools of `blocks` blocks (dict of name to a pair of pools).

    ``two allocations`` is TensorRT-LLM's; mapped twice, slot i of either pool is the same page.
    """
    halves = np.split(pages(2 * blocks), 2)
    with tempfile.TemporaryFile() as file:
        file.truncate(blocks * PAGE)
        twice = [pages(blocks, file) for _ in range(2)]
    return {"two allocations": [pages(blocks) for _ in range(2)],
            "one allocation, two halves": halves, "one memory, mapped twice": twice}


def shared(layouts):
    """How much memory two pools share, by the kernel's page map and by writing (DataFrame).

    ``slots written through`` change when the other pool is written. The pools are overwritten.
    """
    rows = []
    for name, (primary, secondary) in layouts.items():
        primary[:], secondary[:] = 1, 2
        seen = frames(primary)
        rows.append({"arrangement": name, "blocks": len(primary), "pages seen": len(seen),
                     "pages in both pools": len({*seen} & {*frames(secondary)}),
                     "slots written through": int((primary[:, 0] == 2).sum())})
    return pd.DataFrame(rows)


def frames(pool):
    """The physical page frames behind a pool, in order; empty where the kernel hides them."""
    first, count = pool.ctypes.data // PAGE, pool.nbytes // PAGE
    try:
        entries = np.fromfile("/proc/self/pagemap", np.uint64, count, offset=8 * first)
    except OSError:
        return []
    found = entries & np.uint64((1 << 55) - 1)
    return found.tolist() if found.all() else []
