"""Bug 4: TensorRT-LLM's FP8 block-scale operators under its own tuner: warm-up, then calls.

Asked are the GEMM operator with the scales that its quantiser gives, a linear layer (which chooses
the quantiser), and mixture-of-experts layers. Said are the exception and the function that raised
it, or the tactic that was picked, its time, and the error against a float64 product of the
quantised weight (the activation's rounding is in it).
"""

import contextlib

import torch
from probing import (
    TUNER,
    Layer,
    attempt,
    begin,
    choosing,
    device,
    fp8_blocks,
    milliseconds,
    need,
    operator,
    random,
    relative,
)


class Watched:
    """Asks the tuner, and keeps what it picked for the last call."""

    def __init__(self):
        self.picked = []

    def __call__(self, original, custom_op, runners, *words, **named):
        runner, tactic = original(custom_op, runners, *words, **named)
        self.picked.append((custom_op, tactic))
        return runner, tactic

    def values(self):
        """The tactics since the last time (dict), forgotten then."""
        picked, self.picked = self.picked, []
        return {"tuner asked": len(picked), "operator": picked[-1][0] if picked else "",
                "tactic": "; ".join(str(tactic) for _, tactic in picked[-2:])}


def steps(name, call, watched, sizes, most, repeats, reference):
    """Warm-up at the largest size, then a call at each size."""
    tune = need(f"{TUNER}:autotune")
    tuner = need(f"{TUNER}:AutoTuner").get()
    tuner.clear_cache()

    def once(size, tuning):
        def action():
            with torch.inference_mode(), tune() if tuning else contextlib.nullcontext():
                output = call(size)
            found = {"error": relative(output, reference(size))} | watched.values()
            if not tuning:
                with torch.inference_mode():
                    found["ms"] = milliseconds(lambda: call(size), repeats)
                watched.values()
            return found
        step = "warm-up" if tuning else "call"
        watched.values()
        attempt(f"{name}, {step} m={size}", action, layer=name, step=step, m=size)

    once(most, True)
    for size in sizes:
        once(size, False)


def gemm(given, watched):
    """The operator with the quantiser that non-SM120 GPUs get.

    ``fp8_quantize_1x128`` and ``fp8_block_scaling_gemm(a, b, a_scale, b_scale)``:
    tests/unittest/_torch/thop/parallel/test_fp8_block_scale_gemm.py at
    06558637cf3890e329bb46042247b1c4a688b5c0; the tuned operator and its spec:
    _torch/custom_ops/torch_custom_ops.py at 000af3a1e55b7bbb97b6c8849d916fbbd00678ee.
    """
    weight, scales, value = fp8_blocks(random(given.n, given.k, seed=3))
    states = {size: random(size, given.k, seed=size) for size in {*given.sizes, given.most}}
    quantise, multiply = operator("fp8_quantize_1x128"), operator("fp8_block_scaling_gemm")

    def scaled(size):
        quantised, scale = quantise(states[size])
        return {"rank of the scales": scale.dim(), "scales": list(scale.shape)}
    attempt("scales", lambda: scaled(given.most), layer="quantiser", m=given.most)

    def call(size):
        quantised, scale = quantise(states[size])
        return multiply(quantised, weight, scale, scales)
    steps("gemm", call, watched, given.sizes, given.most, given.repeats,
          lambda size: states[size].double() @ value.T)


def linear(given, watched):
    """The layer that models use: it takes another quantiser on SM120.

    Linear(in_features, out_features, bias, dtype, quant_config), load_weights([{..}]),
    post_load_weights: _torch/modules/linear.py at 00bbf71e796406ea8593a77cbfb828356182db16, and
    tests/unittest/_torch/thop/parallel/test_fp4_linear.py at
    03631536309a6a06809bb0f7b33e1d0cbc76636e.
    """
    modelling = "tensorrt_llm.models.modeling_utils"
    config = need(f"{modelling}:QuantConfig")(
        quant_algo=need(f"{modelling}:QuantAlgo").FP8_BLOCK_SCALES)
    weight, scales, value = fp8_blocks(random(given.n, given.k, seed=3))
    states = {size: random(size, given.k, seed=size) for size in {*given.sizes, given.most}}
    layer = need("tensorrt_llm._torch.modules.linear:Linear")(
        in_features=given.k, out_features=given.n, bias=False, dtype=torch.bfloat16,
        quant_config=config)
    layer.to(device())
    layer.load_weights([{"weight": weight, "weight_scale_inv": scales, "weight_scale": scales}])
    if hasattr(layer, "post_load_weights"):
        layer.post_load_weights()
    steps("linear", lambda size: layer.forward(states[size]), watched, given.sizes, given.most,
          given.repeats, lambda size: states[size].double() @ value.T)


def experts(back_end, given, watched):
    """A mixture-of-experts layer in FP8 with block scales."""
    layer = Layer("FP8_BLOCK_SCALES", **given.layer)
    built = layer.build(back_end, given.most)
    steps(f"moe {back_end}", lambda size: layer.forward(built, size), watched, given.sizes,
          given.most, given.repeats, layer.reference)


def main(given):
    """Run all under the watched tuner."""
    watched = Watched()
    with choosing(watched):
        attempt("gemm", lambda: gemm(given, watched), layer="gemm, all of it")
        attempt("linear", lambda: linear(given, watched), layer="linear, all of it")
        for name in given.back_ends:
            attempt(f"moe {name}", lambda: experts(name, given, watched),
                    layer=f"moe {name}, all of it")


if __name__ == "__main__":
    begin(4, ("layer", "step", "m", "tactic", "ms", "error", "exception", "raised in"), main,
          sizes=[1, 8, 64, 300, 512], most=512, n=4096, k=7168, layer={}, repeats=20,
          back_ends=["CUTLASS", "TRTLLM"])
