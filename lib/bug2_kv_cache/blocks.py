"""A paged KV cache with a primary and a secondary pool, as TensorRT-LLM's C++ block manager keeps it.

Read from kvCacheManager.cpp at b35ac1b, kvCacheTransferManager.cpp at 03d4aac and evictionPolicy.cpp at 05a9191 of NVIDIA/TensorRT-LLM.
Simplified: one priority, one attention window, one beam, whole blocks only (no partial reuse), blocks of generated tokens are not
reused, and a block whose parent was dropped is forgotten when it is next asked for, not at once.
"""

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass
from itertools import count

from lib.errors import CollectionError

DESIGNS = ("copy", "relabel", "fold", "skip")


@dataclass
class Counts:
    """What one replay did, in blocks (`requests` and `refused` are requests; `wrong` are hits on a block with other contents)."""

    requests: int = 0
    refused: int = 0
    hits_primary: int = 0
    hits_secondary: int = 0
    misses: int = 0
    offloads: int = 0
    onboards: int = 0
    copies: int = 0
    dropped: int = 0
    wrong: int = 0

    @property
    def hits(self):
        """Blocks found in either pool."""
        return self.hits_primary + self.hits_secondary

    @property
    def operations(self):
        """Blocks claimed, released, offloaded and onboarded."""
        return 2 * (self.hits + self.misses) + self.offloads + self.onboards

    @property
    def hit_rate(self):
        """Share of the prompts' blocks that were found (0 to 1)."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0

    def costs(self, block_bytes, bandwidth, passes=2):
        """The counts with ``hits``, ``hit_rate``, ``bytes_copied``, and the ``seconds`` of a memory of `bandwidth` bytes/s.

        `passes` is how often the memory sees each byte: 2 (a read and a write) where both pools are one memory, 1 over a link.
        """
        moved = self.copies * block_bytes
        return asdict(self) | {"hits": self.hits, "hit_rate": self.hit_rate, "bytes_copied": moved, "seconds": passes * moved / bandwidth}


class BlockManager:
    """Blocks in two pools; the free queues are LRU and keep their contents for reuse until they are taken.

    Parameters
    ----------
    primary, secondary : int
        Blocks in each pool.
    design : str
        ``copy``: an evicted block is copied to a secondary slot, and back when a prefix asks for it.
        ``relabel``: it stays where it lies and trades labels with a secondary slot; kernels must reach both pools.
        ``fold``: one pool of primary + secondary blocks.
        ``skip``: as published in pull request 12301: slots are traded as in ``copy``, contents are not copied.
    store : Ledger, optional
        Storage whose contents are checked at every hit; needed to count wrong blocks.

    Raises
    ------
    CollectionError
        If the design is unknown, or the primary pool has no block.
    """

    def __init__(self, primary, secondary=0, design="copy", store=None):
        if design not in DESIGNS:
            raise CollectionError(f"unknown design {design!r} of a KV cache", f"use one of {', '.join(DESIGNS)}")
        if primary < 1 or secondary < 0:
            raise CollectionError(f"pools of {primary} primary and {secondary} secondary blocks cannot hold a sequence",
                                  "give the primary pool at least one block, and neither pool fewer than none")
        if design == "fold":
            primary, secondary = primary + secondary, 0
        self.size, self.design, self.store, self.counts = primary, design, store, Counts()
        self.empty = count(-1, -1)  # keys below 0: a slot without contents
        self.private = 2**62  # keys of generated blocks, which no prompt names
        self.primary = OrderedDict((next(self.empty), slot) for slot in range(primary))
        self.secondary = OrderedDict((next(self.empty), primary + slot) for slot in range(secondary))
        self.held = {}  # key -> [slot, references]

    def take(self):
        """The slot of the least recently freed primary block, whose contents move to the secondary pool."""
        counts, secondary = self.counts, self.secondary
        key, slot = self.primary.popitem(last=False)
        if key < 0:
            return slot
        if not secondary:
            counts.dropped += 1
            return slot
        lost, other = secondary.popitem(last=False)
        counts.offloads += 1
        counts.dropped += lost >= 0
        if self.design == "relabel":
            secondary[key] = slot
            return other
        if self.design == "copy":
            counts.copies += 1
            if self.store:
                self.store.copy(slot, other)
        secondary[key] = other
        return slot

    def onboard(self, key):
        """The slot under the primary label that a block of the secondary pool gets."""
        counts, old = self.counts, self.secondary.pop(key)
        new = self.take()
        counts.onboards += 1
        if self.design == "relabel":
            old, new = new, old
        elif self.design == "copy":
            counts.copies += 1
            if self.store:
                self.store.copy(old, new)
        self.secondary[next(self.empty)] = old  # upstream appends the freed slot: it is the last to be used again
        return new

    def claim(self, keys, generated=0):
        """Claim the blocks of one sequence: the longest cached prefix of `keys`, then fresh ones (list of all its keys)."""
        counts, store, held, primary, secondary = self.counts, self.store, self.held, self.primary, self.secondary
        matched = onboarded = 0
        for key in keys:
            if entry := held.get(key):
                entry[1] += 1
                slot = entry[0]
            else:
                slot = primary.pop(key, None)
                if slot is None:
                    if key not in secondary:
                        break
                    slot = self.onboard(key)
                    onboarded += 1
                held[key] = [slot, 1]
            matched += 1
            if store and not store.holds(slot, key):
                counts.wrong += 1
        counts.hits_primary += matched - onboarded
        counts.hits_secondary += onboarded
        counts.misses += len(keys) - matched
        counts.requests += 1
        fresh = [*keys[matched:], *range(self.private, self.private + generated)]
        self.private += generated
        take = self.take
        for key in fresh:
            slot = primary.pop(key, None)  # found: its parent is gone, so its contents cannot be matched
            if slot is None:
                if key in secondary:
                    forgotten = next(self.empty)
                    secondary[forgotten] = secondary.pop(key)
                    secondary.move_to_end(forgotten, last=False)
                slot = take()
            held[key] = [slot, 1]
            if store:
                store.write(slot, key)
        return [*keys[:matched], *fresh]

    def release(self, keys):
        """Give a sequence's blocks to the free queue, its end first, so that prefixes are evicted last."""
        held, primary = self.held, self.primary
        for key in reversed(keys):
            entry = held[key]
            if entry[1] == 1:
                del held[key]
                primary[key] = entry[0]
            else:
                entry[1] -= 1


def replay(trace, primary, secondary=0, design="copy", batch=1, store=None):
    """Run a trace through a `BlockManager` with up to `batch` sequences alive at once, in order of arrival (`Counts`).

    A sequence with more blocks than the pool that must hold it is refused, as upstream's capacity check does.
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
