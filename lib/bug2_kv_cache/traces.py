"""Request traces in Mooncake's format: a reader, and generators for three kinds of load."""

import json
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import jsonschema
import numpy as np

from lib.errors import CollectionError

# Tokens of a hash id: https://github.com/kvcache-ai/Mooncake/blob/main/FAST25-release/README.md
BLOCK = 512
SCHEMA = jsonschema.Draft202012Validator(
    json.loads(Path(__file__).with_name("trace.schema.json").read_text()))


class Request(NamedTuple):
    """`timestamp` in ms, lengths in tokens, an id for each block of the prompt."""

    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple

    @property
    def blocks(self):
        """Blocks that the request needs at its end."""
        return -(-(self.input_length + self.output_length) // BLOCK)

    @property
    def generated(self):
        """Blocks that the output adds to the prompt's."""
        return self.blocks - len(self.hash_ids)


def read(path):
    """Read a JSONL file in the Mooncake format (list of `Request`), or say which line is wrong."""
    trace, before, number = [], {}, 0
    try:
        for number, line in enumerate(Path(path).read_text().splitlines(), 1):
            if not line.strip():
                continue
            SCHEMA.validate(row := json.loads(line))
            ids, tokens = tuple(row["hash_ids"]), row["input_length"]
            if len(ids) != (needed := -(-tokens // BLOCK)):
                raise ValueError(f"{tokens} tokens need {needed} hash ids, found {len(ids)}")
            for parent, block in zip((None, *ids), ids):
                if before.setdefault(block, parent) != parent:
                    raise ValueError(f"block {block} follows {parent} here and {before[block]} "
                                     "elsewhere; equal ids are equal prefixes")
            trace.append(Request(row["timestamp"], tokens, row["output_length"], ids))
        if not trace:
            raise ValueError("the trace is empty")
    except (OSError, ValueError, jsonschema.ValidationError) as error:
        where = f"line {number} of {path}" if number else path
        raise CollectionError(f"{where} cannot be read: {getattr(error, 'message', error)}",
                              "name a JSONL file in the Mooncake trace format") from None
    return trace


class Conversation:
    """A prompt that grows: full blocks keep their ids, the last, partly filled one is new."""

    def __init__(self, ids, blocks=()):
        self.ids, self.tokens, self.blocks = ids, BLOCK * len(blocks), list(blocks)

    def ask(self, timestamp, new, output):
        """Add `new` tokens and have `output` generated (`Request`)."""
        self.tokens += new
        self.blocks += islice(self.ids, self.tokens // BLOCK - len(self.blocks))
        partial = (next(self.ids),) if self.tokens % BLOCK else ()
        request = Request(int(timestamp), self.tokens, output, (*self.blocks, *partial))
        self.tokens += output
        return request


def lengths(rng, mean, size=None):
    """Log-normal lengths (sigma 0.8: a heavy tail) of about the given mean, at least 1."""
    return np.maximum(rng.lognormal(np.log(mean) - 0.32, 0.8, size), 1).astype(int)


def chat(users=200, turns=8, system=1024, prompt=300, output=300, pause=30.0, seed=0):
    """Multi-turn chat: users come back after `pause` seconds; lengths are means in tokens."""
    rng, ids = np.random.default_rng(seed), count()
    shared, trace = Conversation(ids), []
    shared.ask(0, system, 0)
    for _ in range(users):
        talk, now = Conversation(ids, shared.blocks), rng.uniform(0, pause * turns)
        for _ in range(turns):
            new, answer = int(lengths(rng, prompt)), int(lengths(rng, output))
            trace.append(talk.ask(1000 * now, new, answer))
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
            talk = Conversation(ids, base.blocks)
            new = int(tokens) % BLOCK + int(lengths(rng, question))
            trace.append(talk.ask(1000 * now, new, output))
            now += rng.exponential(pause)
    return sorted(trace)
