"""The Triton kernel of `scaled_gemm`; importing this needs Triton (3.2 or newer)."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "stride", "length"])  # one compilation for every m
def kernel(activation, weight, out, scale, weight_scale, rows, columns, blocks, stride, length,
           tile_m: tl.constexpr, tile_n: tl.constexpr):
    """One tile of ``out = activation @ weight.T``: e4m3 in, float32 sums, bf16 out.

    `blocks` is k / 128, `stride` the elements between two blocks of `scale`, which has `length`.
    """
    deep = blocks * 128
    m = tl.program_id(0) * tile_m + tl.arange(0, tile_m)
    n = tl.program_id(1) * tile_n + tl.arange(0, tile_n)
    k = tl.arange(0, 128)
    left = activation + m[:, None] * deep + k[None, :]
    right = weight + n[None, :] * deep + k[:, None]
    # `tile_n` divides 128, so each block of k has one weight scale
    strip = weight_scale + tl.program_id(1) * tile_n // 128 * blocks
    total = tl.zeros((tile_m, tile_n), dtype=tl.float32)
    for block in range(blocks):
        given = tl.load(left + block * 128, mask=m[:, None] < rows, other=0.0)
        place = block * stride + m
        factor = tl.load(scale + place, mask=(m < rows) & (place < length), other=0.0)
        factor = factor * tl.load(strip + block)
        total += tl.dot(given, tl.load(right + block * 128)) * factor[:, None]
    written = m[:, None] < rows
    tl.store(out + m[:, None] * columns + n[None, :], total.to(tl.bfloat16), mask=written)
