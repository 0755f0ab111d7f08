"""Bytes of a KV cache's blocks and of a decode step, for any model of `lib.subjects.models`."""

from lib.errors import CollectionError
from lib.subjects import formats, models


def per_token(name, element=2.0):
    """Bytes by which a long sequence's cache grows with a token (int), `element` a cached value.

    Sliding layers beyond their window and recurrent layers add nothing (`models.cache_bytes`);
    what they hold lies outside the pools of the study.
    """
    window = models.config(name).get("window", 0)
    return int(models.cache_bytes(name, window + 1, element)
               - models.cache_bytes(name, window, element))


def weights_per_step(name, form="nvfp4"):
    """Bytes of weights that one decode step reads at batch 1, in one of `formats.BLOCKS`.

    Every matrix that one token multiplies with: attention, recurrent layers, MLP or the token's
    experts, the output head. Norms, biases and routers are left out (below 1 %).
    """
    table = models.tensors(name)
    active = table["active"].where(table["part"] != "head", 1.0)
    matrices = ~table["tensor"].str.startswith(formats.KEPT) & (table["part"] != "embed")
    return int((table["elements"] * active)[matrices].sum() * formats.bits(form) / 8)


def blocks(pool_bytes, block_bytes):
    """Whole blocks in a pool (int); a CollectionError if not even one fits."""
    if pool_bytes < block_bytes:
        raise CollectionError(f"a block of {block_bytes:,} bytes is larger than the pool of "
                              f"{pool_bytes:,.0f} bytes",
                              "give the pool more memory, or make blocks of fewer tokens")
    return int(pool_bytes // block_bytes)
