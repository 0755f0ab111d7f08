"""A model of ours of TensorRT-LLM's block manager: a paged KV cache with two pools of blocks.

Written after kvCacheManager.cpp at b35ac1b, kvCacheTransferManager.cpp at 03d4aac and
evictionPolicy.cpp at 05a9191 of NVIDIA/TensorRT-LLM. Simpler: one priority, window and beam, whole
blocks only, blocks of generated tokens are not reused, and a block whose parent was dropped is
forgotten when it is next asked for, not at once.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import count

from lib.errors import CollectionError

DESIGNS = ("copy", "relabel", "fold", "skip")


@dataclass
class Counts:
    """What one replay did, in blocks."""

    requests: int = 0  # served, and
    refused: int = 0  # not served, in requests
    hits: int = 0  # in either pool; those in the secondary one are the onboards
    misses: int = 0
    offloads: int = 0
    onboards: int = 0
    copies: int = 0
    dropped: int = 0
    wrong: int = 0  # hits on a block that holds another's contents


class BlockManager:
    """Blocks in two pools; the free queues are LRU and keep contents for reuse until taken.

    ``copy``: an evicted block is copied to a secondary slot, and back when a prefix asks for it.
    ``relabel``: it stays where it lies and trades labels with a secondary slot; kernels must reach
    both pools. ``fold``: one pool of primary + secondary blocks. ``skip``, as published in pull
    request 12301: slots are traded as in ``copy``, contents are not copied. The contents of a
    `store` (as `storage.Blocks`) are checked at every hit, and wrong blocks counted.
    """

    def __init__(self, primary, secondary=0, design="copy", store=None):
        if design not in DESIGNS:
            raise CollectionError(f"unknown design {design!r}", f"use {' or '.join(DESIGNS)}")
        if design == "fold":
            primary, secondary = primary + secondary, 0
        self.size, self.design, self.store, self.counts = primary, design, store, Counts()
        self.empty = count(-1, -1)  # keys below 0: a slot without contents
        self.private = 2**62  # keys of generated blocks, which no prompt names
        self.primary = OrderedDict((next(self.empty), slot) for slot in range(primary))
        self.secondary = OrderedDict((next(self.empty), primary + slot)
                                     for slot in range(secondary))
        self.held = {}  # key -> [slot, references]

    def take(self):
        """The slot of the least recently freed primary block, which is offloaded."""
        key, slot = self.primary.popitem(last=False)
        if key < 0 or not self.secondary:
            self.counts.dropped += key >= 0
            return slot
        lost, other = self.secondary.popitem(last=False)
        self.counts.offloads += 1
        self.counts.dropped += lost >= 0
        self.secondary[key], slot = self.moved(slot, other)
        return slot

    def moved(self, source, target):
        """Move a block to a free slot by the design: where it lies now, and what is free now."""
        if self.design == "relabel":
            return source, target
        if self.design == "copy":
            self.counts.copies += 1
            if self.store:
                self.store.copy(source, target)
        return target, source

    def onboard(self, key):
        """The slot under the primary label that a block of the secondary pool gets."""
        self.counts.onboards += 1
        old = self.secondary.pop(key)
        new, old = self.moved(old, self.take())
        self.secondary[next(self.empty)] = old  # appended, as upstream does: the last to be used
        return new

    def claim(self, keys, generated=0):
        """Claim a sequence's blocks: the longest cached prefix, then fresh ones (list of keys)."""
        counts, store, held = self.counts, self.store, self.held
        primary, secondary = self.primary, self.secondary
        matched = 0
        for key in keys:
            if key in held:
                held[key][1] += 1
            elif key in primary:
                held[key] = [primary.pop(key), 1]
            elif key in secondary:
                held[key] = [self.onboard(key), 1]
            else:
                break
            matched += 1
            if store and not store.holds(held[key][0], key):
                counts.wrong += 1
        counts.hits += matched
        counts.misses += len(keys) - matched
        counts.requests += 1
        fresh = [*keys[matched:], *range(self.private, self.private + generated)]
        self.private += generated
        for key in fresh:
            slot = primary.pop(key, None)  # found: its parent is gone, so it cannot be matched
            if slot is None:
                if key in secondary:
                    secondary[forgotten := next(self.empty)] = secondary.pop(key)
                    secondary.move_to_end(forgotten, last=False)
                slot = self.take()
            held[key] = [slot, 1]
            if store:
                store.write(slot, key)
        return [*keys[:matched], *fresh]

    def release(self, keys):
        """Give a sequence's blocks to the free queue, its end first: prefixes are evicted last."""
        for key in reversed(keys):
            self.held[key][1] -= 1
            if not self.held[key][1]:
                self.primary[key], _ = self.held.pop(key)


def replay(trace, primary, secondary=0, design="copy", batch=1, store=None):
    """Run a trace with up to `batch` sequences alive at once, in order of arrival (`Counts`).

    A sequence with more blocks than the pool that must hold it is refused, as upstream does.
    """
    manager = BlockManager(primary, secondary, design, store)
    alive, used = deque(), 0
    for request in trace:
        need = request.blocks
        if need > manager.size:
            manager.counts.refused += 1
            continue
        while alive and (len(alive) >= batch or used + need > manager.size):
            keys = alive.popleft()
            used -= len(keys)
            manager.release(keys)
        alive.append(manager.claim(request.hash_ids, request.generated))
        used += need
    return manager.counts
