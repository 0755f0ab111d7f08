"""Request traces in Mooncake's format: a reader, a writer, and generators for three kinds of load."""

import json
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.errors import CollectionError

BLOCK = 512  # tokens that one hash id stands for: https://github.com/kvcache-ai/Mooncake/blob/main/FAST25-release/README.md


class Request(NamedTuple):
    """One request: `timestamp` in ms, lengths in tokens, and a hash id for each block of the prompt (equal ids: equal prefixes)."""

    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple

    @property
    def generated(self):
        """Blocks that the output adds to the prompt's."""
        return -(-(self.input_length + self.output_length) // BLOCK) - len(self.hash_ids)

    @property
    def blocks(self):
        """Blocks that the request needs at its end."""
        return -(-(self.input_length + self.output_length) // BLOCK)


def parse(line):
    """One line of a trace as a `Request`; raises ValueError with the reason."""
    try:
        row = json.loads(line)
        request = Request(*(row[name] for name in Request._fields[:3]), tuple(row["hash_ids"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"not a trace request ({type(error).__name__}: {error})") from None
    if not all(type(value) is int and value >= 0 for value in (*request[:3], *request.hash_ids)):
        raise ValueError("lengths and ids must be whole numbers, none negative")
    if request.input_length < 1:
        raise ValueError("a prompt has at least one token")
    if len(set(request.hash_ids)) != len(request.hash_ids):
        raise ValueError("one prompt names the same block twice")
    needed = -(-request.input_length // BLOCK)
    if len(request.hash_ids) != needed:
        raise ValueError(f"{request.input_length} tokens need {needed} hash ids, found {len(request.hash_ids)}")
    return request


def read(path):
    """Read a JSONL file in the Mooncake trace format (list of `Request`).

    Raises
    ------
    CollectionError
        If there is no such file, it is empty, or a line is no request: its number, and what is wrong with it.
    """
    path, trace, before = Path(path), [], {}
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"the trace {path} cannot be read: {error}", "name a JSONL file in the Mooncake trace format") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            request = parse(line)
            for parent, block in zip((None, *request.hash_ids), request.hash_ids):
                if before.setdefault(block, parent) != parent:
                    raise ValueError(f"block {block} follows {parent} here and {before[block]} elsewhere; equal ids are equal prefixes")
            trace.append(request)
        except ValueError as error:
            raise CollectionError(f"{path}, line {number}: {error}", "correct the line, or leave the trace out") from None
    if not trace:
        raise CollectionError(f"the trace {path} is empty", "name a JSONL file in the Mooncake trace format")
    return trace


def write(path, trace):
    """Write requests as JSONL in the Mooncake trace format."""
    rows = (dict(zip(Request._fields, (*request[:3], list(request.hash_ids)))) for request in trace)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


class Conversation:
    """A prompt that grows: full blocks keep their ids, the last, partly filled one is new every time."""

    def __init__(self, ids, start=None):
        self.ids = ids
        self.tokens, self.blocks = (start.tokens // BLOCK * BLOCK, list(start.blocks)) if start else (0, [])

    def ask(self, timestamp, new, output):
        """Add `new` tokens and have `output` generated (`Request`)."""
        self.tokens += new
        while len(self.blocks) < self.tokens // BLOCK:
            self.blocks.append(next(self.ids))
        partial = (next(self.ids),) if self.tokens % BLOCK else ()
        request = Request(int(timestamp), self.tokens, output, (*self.blocks, *partial))
        self.tokens += output
        return request


def lengths(rng, mean, size=None):
    """Log-normal lengths (sigma 0.8: a heavy tail) of about the given mean, at least 1."""
    return np.maximum(rng.lognormal(np.log(mean) - 0.32, 0.8, size), 1).astype(int)


def chat(users=200, turns=8, system=1024, prompt=300, output=300, pause=30.0, seed=0):
    """Multi-turn chat: one system prompt, users who come back after `pause` seconds; lengths are means in tokens."""
    rng, ids = np.random.default_rng(seed), count()
    shared, trace = Conversation(ids), []
    shared.ask(0, system, 0)
    for _ in range(users):
        talk, now = Conversation(ids, shared), rng.uniform(0, pause * turns)
        for _ in range(turns):
            trace.append(talk.ask(1000 * now, int(lengths(rng, prompt)), int(lengths(rng, output))))
            now += rng.exponential(pause)
    return sorted(trace)


def agents(runs=60, steps=15, tools=16384, observation=1500, output=200, pause=5.0, seed=0):
    """Agents that share a prefix of `tools` tokens and append what each tool returned."""
    return chat(runs, steps, tools, observation, output, pause, seed)


def documents(texts=100, length=32768, questions=4, question=60, output=400, pause=60.0, seed=0):
    """Questions about long documents, each document asked `questions` times."""
    rng, ids, trace = np.random.default_rng(seed), count(), []
    for tokens in lengths(rng, length, texts):
        base, now = Conversation(ids), rng.uniform(0, pause * questions)
        base.ask(0, int(tokens), 0)
        for _ in range(questions):
            talk = Conversation(ids, base)
            trace.append(talk.ask(1000 * now, int(tokens) % BLOCK + int(lengths(rng, question)), output))
            now += rng.exponential(pause)
    return sorted(trace)


def describe(trace):
    """What is in a trace (dict): requests, blocks named, distinct blocks, longest request in blocks, mean lengths in tokens."""
    return {"requests": len(trace), "blocks named": sum(len(each.hash_ids) for each in trace),
            "distinct blocks": len({block for each in trace for block in each.hash_ids}),
            "longest (blocks)": max(each.blocks for each in trace),
            "mean prompt (tokens)": float(np.mean([each.input_length for each in trace])),
            "mean output (tokens)": float(np.mean([each.output_length for each in trace]))}
