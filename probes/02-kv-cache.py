"""Bug 2: a small model with one pool of the KV cache, with two, and with one as large as both.

Some prompts that do not fit the first pool together are asked twice, one after the other. Said are
hits, blocks that went to the second pool and came back, blocks removed, the time, and whether the
tokens stay the same.
"""

import gc
import time

import torch
from probing import Missing, attempt, begin, need, say


def prompt(number, length):
    """Token ids that differ from the first block on."""
    return [100 + (37 * number + 13 * place + number * place) % 20_000 for place in range(length)]


def ask(given, host, most, first):
    """Serve all prompts twice with a second pool of `host` bytes and a first one of `most` tokens.

    Where it was read: LLM, KvCacheConfig(enable_block_reuse, event_buffer_max_size, max_tokens),
    SamplingParams, generate on token ids, get_kv_cache_events and the fields of an event:
    tests/unittest/llmapi/test_llm_kv_cache_events.py at 025b36c315f27c9645fe3f1b80f3c1758799f9dc.
    ``host_cache_size``: tests/unittest/llmapi/test_llm_args.py at
    6ee1c87595e83c409285c5ababaa42fe48668a69. ``max_seq_len``, ``max_batch_size``, ``shutdown``,
    outputs[0]: tests/unittest/_torch/speculative/test_dynamic_spec_decode.py at
    0b024710e4594c430d1010e22dda100fddae5c6f. ``cuda_graph_config=None``,
    ``enable_iter_perf_stats``, ``get_stats`` and ``kvCacheStats``: in excerpts of tests that the
    search showed without their path. ``cache_level`` 0 is the first pool, 1 the second.
    """
    model, config = need("tensorrt_llm:LLM"), need("tensorrt_llm.llmapi:KvCacheConfig")
    sampling = need("tensorrt_llm:SamplingParams")(max_tokens=given.answer, temperature=0,
                                                   ignore_eos=True)
    cache = config(enable_block_reuse=True, max_tokens=most, host_cache_size=host,
                   event_buffer_max_size=65536)
    llm = model(model=given.model_dir, kv_cache_config=cache, cuda_graph_config=None,
                max_batch_size=1, max_seq_len=given.length + given.answer + 64,
                enable_iter_perf_stats=True)
    found, rounds, answers, counted = {}, [], [], {"removed": 0}
    try:
        for _ in range(2):
            began = time.perf_counter()
            # One list of outputs a call: outputs[0].token_ids of each (ibid.)
            answers.append([list(llm.generate([prompt(number, given.length)],
                                              sampling)[0].outputs[0].token_ids)
                            for number in range(given.prompts)])
            rounds.append(time.perf_counter() - began)
            for event in llm.get_kv_cache_events(5):
                count(event["data"], counted)
        stats = [each.get("kvCacheStats") or {} for each in llm.get_stats(5)]
        found = {"hits": max((each.get("reusedBlocks", 0) for each in stats), default=None),
                 "missed": max((each.get("missedBlocks", 0) for each in stats), default=None)}
    finally:
        llm.shutdown()
        gc.collect()
        torch.cuda.empty_cache() if torch.cuda.is_available() else None
    pools = counted.pop("pools", [None, None])
    first.setdefault("answers", answers)
    first |= {"pools": pools, "block": counted.pop("block", 0)}
    return found | {
        "blocks": pools[0], "blocks of the second pool": sum(filter(None, pools[1:])),
        "offloaded": counted.get((0, 1), 0), "onboarded": counted.get((1, 0), 0),
        "removed": counted["removed"], "first round (s)": rounds[0], "second round (s)": rounds[1],
        "second round as the first": answers[0] == answers[1],
        "as with one pool": answers == first["answers"],
        "tokens": sum(map(len, answers[0])), "first tokens": answers[0][0][:8]}


def count(data, counted):
    """Add one event to the counts."""
    if data["type"] == "created":
        counted["pools"] = list(data["num_blocks_per_cache_level"])
    elif data["type"] == "stored":
        lengths = [len(block["tokens"]) for block in data["blocks"]]
        counted["block"] = max([counted.get("block", 0), *lengths])
    elif data["type"] == "removed":
        counted["removed"] += len(data["block_hashes"])
    elif data["type"] == "updated" and data.get("cache_level"):
        level = data["cache_level"]
        moved = level["old_value"], level["new_value"]
        counted[moved] = counted.get(moved, 0) + 1


def main(given):
    """Run the three arrangements."""
    if not given.model_dir:
        raise Missing("no model: name the folder of a small one in model_dir")
    kept = {}
    for name, host in (("one pool", 0), ("two pools", given.host_cache_size)):
        attempt(name, lambda: ask(given, host, given.pool, kept), pools=name, host=host,
                most=given.pool)
    blocks = sum(filter(None, kept.get("pools", [])))
    if not blocks or not kept["block"]:
        say("one pool of both", "skipped", "how many blocks the two pools have is not known")
        return
    most = blocks * kept["block"]
    attempt("one pool of both", lambda: ask(given, 0, most, kept), pools="one pool of both", host=0,
            most=most)


if __name__ == "__main__":
    begin(2, ("pools", "hits", "offloaded", "onboarded", "removed", "second round (s)",
              "as with one pool"), main,
          model_dir="", host_cache_size=2**30, pool=2048, prompts=8, length=512,
          answer=16)
