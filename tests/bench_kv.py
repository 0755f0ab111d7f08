"""The measured bar of the KV cache study: block operations per second."""

import time

from lib.bug2_kv_cache import blocks, traces

LIMIT = 1e6  # operations/s, the least that the study of a million requests can wait for


def _throughput(design, trace, pool=20_000, batch=8, rounds=3):
    """The best of a few rounds: blocks claimed, released, offloaded and onboarded per second of processor time (float)."""
    best = 0.0
    for _ in range(rounds):
        start = time.process_time()
        counts = blocks.replay(trace, pool, pool, design, batch)
        spent = time.process_time() - start
        operations = 2 * (counts.hits + counts.misses) + counts.offloads + counts.onboards
        best = max(best, operations / spent)
    return best


def block_operations():
    """A row per design (list of dict with bar, measured, limit, unit, ok)."""
    trace = traces.chat(users=1000, turns=20, prompt=1200, output=600)
    rows = []
    for design in blocks.DESIGNS:
        measured = _throughput(design, trace)
        rows.append({"bar": f"KV block operations, {design}", "measured": measured, "limit": LIMIT, "unit": "1/s, at least", "ok": measured >= LIMIT})
    return rows
