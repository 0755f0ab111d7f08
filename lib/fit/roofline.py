"""The two roofs over a decoder: what a step must read, and what it must compute.

Bytes are those that a step must read: the weights that its tokens route to, and the caches of its
sequences. Activations, writes and launches are left out: by how much it is missed is its point.
"""

from bisect import bisect_left

import pandas as pd

from lib.errors import CollectionError
from lib.subjects import formats, models


def routed(top_k, experts, tokens, alike=False):
    """The share of the experts that some tokens route to; an error for numbers that cannot be.

    `alike`, all go to the same ones, the least there can be; else the expectation if each routes
    by itself and every expert is as likely.
    """
    if tokens < 1 or not 0 < top_k <= experts:
        raise CollectionError(f"{tokens} tokens to {top_k} of {experts} experts cannot be",
                              "give at least one token, and no more experts than there are")
    return top_k / experts if alike else 1 - (1 - top_k / experts) ** tokens


def step_bytes(name, recipe, tokens=1, sequences=1, context=0, element=2.0, alike=False):
    """Bytes that a step of `tokens` tokens reads (in decode: a token of each sequence).

    By part (Series): experts, attention, head, other and cache, as far as the model has them;
    `element` is the bytes of a cached value.
    """
    table, c = models.stored(name, recipe), models.config(name)
    share = table["active"].to_numpy(copy=True)
    if "experts" in c:
        share[table["part"] == "experts"] = routed(c["top_k"], c["experts"], tokens, alike)
    share[table["tensor"] == "embed"] = tokens / c["vocab"]
    share[table["part"] == "head"] = 1.0
    read = (table["bytes"] * share).groupby(table["part"].to_numpy()).sum()
    read["other"] += read.pop("embed") if "embed" in read else 0.0
    read["cache"] = sequences * models.cache_bytes(name, context, element)
    return read


def needed(name, recipe, context, machines=1):
    """GB of weights, bits of each, and what each of some machines must hold (dict)."""
    weights = models.weight_bytes(name, recipe)
    each = (weights + models.cache_bytes(name, context)) / machines + models.working_bytes(name)
    bits = 8 * weights / models.tensors(name)["elements"].sum()
    return {"weights (GB)": weights / models.GB, "bits a weight": bits,
            "each Spark needs (B)": each, "each Spark needs (GB)": each / models.GB}


def attention_operations(name, context):
    """Operations of a token's attention: 4 a cached position, head and dimension (QK and PV)."""
    c = models.config(name)
    return 4 * sum(kind in "A*" for kind in models.layers(c)) * c["heads"] * c["head_dim"] * context


def operations(name, tokens=1, context=0):
    """Operations of a step: 2 for each weight and token that multiply, and attention's.

    Rows of the embedding are looked up, not multiplied.
    """
    table = models.tensors(name)
    active = float((table["elements"] * table["active"])[table["tensor"] != "embed"].sum())
    return tokens * (2 * active + attention_operations(name, context))


def under(read, computed, tokens, bandwidth, peak):
    """The lower roof (dict): seconds of each, tokens_per_s, and roof, ``memory`` or ``compute``."""
    memory, compute = read.sum() / bandwidth, computed / peak
    return {"memory_s": memory, "compute_s": compute, "tokens_per_s": tokens / max(memory, compute),
            "roof": "memory" if memory >= compute else "compute"}


def decode(name, recipe, bandwidth, peak, batch=1, context=0, element=2.0, machines=1, alike=False):
    """The bound of decode (dict, as `under`), in bytes and operations a second.

    `batch` sequences have `context` cached tokens each; tensor parallelism over `machines` is
    perfect.
    """
    read = step_bytes(name, recipe, batch, batch, context, element, alike)
    computed = operations(name, batch, context)
    return under(read, computed, batch, bandwidth * machines, peak * machines)


def prefill(name, recipe, bandwidth, peak, tokens, machines=1):
    """The bound of a pass over a prompt, as `decode`; a token sees half of it on average."""
    read = step_bytes(name, recipe, tokens, 1, tokens)
    computed = operations(name, tokens, tokens / 2)
    return under(read, computed, tokens, bandwidth * machines, peak * machines)


def crossing(name, recipe, bandwidth, peak, limit=1 << 17):
    """The fewest tokens in a step for which arithmetic takes longer than reading; None if none."""
    def computes(tokens):
        return decode(name, recipe, bandwidth, peak, tokens)["roof"] == "compute"

    at = bisect_left(range(1, limit + 1), True, key=computes)
    return at + 1 if at < limit else None


def shares(measured, bandwidth, peak):
    """Measurements beside their bounds.

    `measured` has dicts with kind (``decode`` or ``prefill``), model, recipe, tokens_per_s, batch
    (tokens of the prompt for a prefill), context, kv, sparks, and stated, unless it is not known
    how much was cached. They come back (DataFrame) with bound and bound_alike (tokens a second),
    roof, and share (measured over bound).
    """
    def row(each):
        given = each["model"], each["recipe"], bandwidth, peak, each["batch"]
        if each["kind"] == "prefill":
            found = alike = prefill(*given, each["sparks"])
        else:
            more = each["context"], formats.CACHED[each["kv"]], each["sparks"]
            found, alike = (decode(*given, *more, alike=same) for same in (False, True))
        bound = found["tokens_per_s"]
        return {"stated": True} | each | {
            "bound": bound, "bound_alike": alike["tokens_per_s"], "roof": found["roof"],
            "share": each["tokens_per_s"] / bound}
    return pd.DataFrame(map(row, measured))
