"""A server of two small pools that answers with numbers."""

from dataclasses import dataclass, field

import torch

from tensorrt_llm import behaviour
from tensorrt_llm.llmapi import attention

BLOCK, BYTES = 32, 2**20


@dataclass
class KvCacheConfig:
    enable_block_reuse: bool = True
    max_tokens: int | None = None
    host_cache_size: int | None = None
    event_buffer_max_size: int = 0


@dataclass
class SamplingParams:
    max_tokens: int = 32
    temperature: float | None = None
    ignore_eos: bool = False


@dataclass
class Completion:
    token_ids: list


@dataclass
class RequestOutput:
    outputs: list = field(default_factory=list)


class LLM:
    """One sequence at a time; the block that was not used for longest goes first."""

    def __init__(self, model, kv_cache_config, cuda_graph_config=None, max_batch_size=None, max_seq_len=None,
                 enable_iter_perf_stats=False):
        self.sizes = [kv_cache_config.max_tokens // BLOCK, (kv_cache_config.host_cache_size or 0) // BYTES]
        self.pools, self.hits, self.missed = [{}, {}], 0, 0
        self.events = [{"type": "created", "num_blocks_per_cache_level": self.sizes}]

    def generate(self, inputs, sampling_params):
        return [RequestOutput([Completion(self.answer(each, sampling_params.max_tokens))]) for each in inputs]

    def answer(self, prompt, most):
        for end in range(BLOCK, len(prompt) + 1, BLOCK):
            self.use(hash(tuple(prompt[:end])))
        attention.context()
        for _ in range(most - 1):
            attention.generation()
        shift = len(self.pools[1]) if "wrong" in behaviour.IS else 0
        return [(sum(prompt) + 7 * number + shift) % 30_000 for number in range(most)]

    def use(self, block):
        first, second = self.pools
        if block in first:
            self.hits += 1
        elif block in second:
            self.hits += 1
            del second[block]
            self.moved(block, 1, 0)
        else:
            self.missed += 1
            self.events.append({"type": "stored", "blocks": [{"tokens": [0] * BLOCK}]})
        first.pop(block, None)
        first[block] = None
        if len(first) > self.sizes[0]:
            oldest = next(iter(first))
            del first[oldest]
            if self.sizes[1]:
                second[oldest] = None
                self.moved(oldest, 0, 1)
            else:
                self.events.append({"type": "removed", "block_hashes": [oldest]})
            if len(second) > self.sizes[1]:
                gone = next(iter(second))
                del second[gone]
                self.events.append({"type": "removed", "block_hashes": [gone]})

    def moved(self, block, old, new):
        self.events.append({"type": "updated", "block_hash": block, "cache_level": {"old_value": old, "new_value": new}})

    def get_kv_cache_events(self, timeout=2):
        events, self.events = self.events, []
        return [{"event_id": number, "data": data} for number, data in enumerate(events)]

    def get_stats(self, timeout=2):
        return [{"iter": 0}, {"kvCacheStats": {"reusedBlocks": self.hits, "missedBlocks": self.missed}}]

    def shutdown(self):
        torch.cuda.synchronize() if torch.cuda.is_available() else None
