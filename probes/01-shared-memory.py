"""Bug 1: every tactic of TensorRT-LLM's NVFP4 GEMM and of its CUTLASS mixture of experts.

Each is run at some sizes: whether it runs, what it says if not, its time, and its relative error
against the float64 product of the quantised values.
"""

import torch
from probing import (
    TUNER,
    Layer,
    attempt,
    begin,
    choosing,
    device,
    milliseconds,
    need,
    nvfp4,
    random,
    relative,
    say,
)

OPERATORS = "tensorrt_llm._torch.custom_ops.torch_custom_ops"


def gemm(m, n, k, repeats):
    """Every tactic of FP4GemmRunner at one size.

    _torch/custom_ops/torch_custom_ops.py at 000af3a1e55b7bbb97b6c8849d916fbbd00678ee:
    FP4GemmRunner(fp4_gemm_type, output_buffer_kind, output_dtype), get_valid_tactics(inputs,
    profile), forward(inputs, tactic=); earlier ones have to_userbuffers in the second place.
    FP4GemmType: quantization/utils/fp4_utils.py at 0ab64245e1fcd9a019bbd2499fc111b19eeb0fca.
    """
    need(f"{TUNER}:AutoTuner")
    kind = need("tensorrt_llm.quantization.utils.fp4_utils:FP4GemmType").W4A4_NVFP4_NVFP4
    runner = need(f"{OPERATORS}:FP4GemmRunner")(kind, 0, torch.bfloat16)
    left, right = nvfp4(random(m, k, seed=1)), nvfp4(random(n, k, seed=2))
    alpha = (1 / (left.scale * right.scale)).to(device())
    inputs = [left.packed, right.packed, left.scales, right.scales, alpha]
    reference = left.value @ right.value.T
    tactics = list(runner.get_valid_tactics(inputs, None))
    say(f"gemm m={m} n={n} k={k}", "ok", f"{len(tactics)} tactics", tactics=len(tactics))
    for tactic in [-1, *tactics]:  # -1 is the default
        def action():
            error = relative(runner(inputs, tactic=tactic), reference)
            return {"error": error, "ms": milliseconds(lambda: runner(inputs, tactic=tactic),
                                                       repeats)}
        attempt(f"gemm m={m} n={n} k={k} tactic {tactic}", action, operator="gemm",
                step="alone", m=m, n=n, k=k, tactic=tactic)


class Dictated:
    """Answers for the tuner with tactics of ours, and keeps the runner that was asked about.

    MoERunner, ibid.: the tuner is asked about it with ``gemm_idx`` 1 and 2.
    """

    def __init__(self):
        self.tactics, self.asked = {}, {}

    def __call__(self, original, custom_op, runners, config, inputs, **named):
        gemm = named.get("gemm_idx", 0)
        self.asked[gemm] = runners[0], inputs, named
        return runners[0], self.tactics.get(gemm, -1)


def experts(tokens, layer, built, dictated, repeats):
    """Every tactic of the two grouped GEMMs of a layer, for some tokens.

    First each by itself, as the tuner profiles it (`do_preparation`, then the tactic), and then
    the whole layer with it and with the first tactic of the other GEMM that ran.
    """
    case = f"moe {tokens} tokens"
    reference = layer.reference(tokens)
    attempt(f"{case}, defaults", lambda: {
        "error": relative(layer.forward(built, tokens), reference)},
        operator="moe", step="in the layer", m=tokens, gemm=0, tactic=-1)
    if not dictated.asked:
        say(case, "missing", "looked for a call of AutoTuner.choose_one in the layer's forward")
        return
    ran = {}
    for gemm, (runner, inputs, named) in sorted(dictated.asked.items()):
        attempt(f"{case}, gemm {gemm} preparation", lambda: runner(
            inputs, tactic=-1, do_preparation=True, **named) and None, operator="moe",
            step="preparation", m=tokens, gemm=gemm)
        ran[gemm] = [tactic for tactic in runner.get_valid_tactics(inputs, None, **named)
                     if attempt(f"{case}, gemm {gemm} tactic {tactic}", lambda: {
                         "ms": milliseconds(lambda: runner(inputs, tactic=tactic, **named),
                                            repeats)},
                         operator="moe", step="alone", m=tokens, gemm=gemm, tactic=tactic)]
    firsts = {gemm: tactics[0] for gemm, tactics in ran.items() if tactics}
    for gemm, tactics in ran.items():
        for tactic in tactics:
            dictated.tactics = firsts | {gemm: tactic}
            attempt(f"{case}, gemm {gemm} tactic {tactic} in the layer", lambda: {
                "error": relative(layer.forward(built, tokens), reference)},
                operator="moe", step="in the layer", m=tokens, gemm=gemm, tactic=tactic)
    dictated.tactics = {}


def main(given):
    """Run what the parameters say."""
    for size in given.sizes:
        attempt(f"gemm {size}", lambda: gemm(*size, given.repeats), operator="gemm, all of it")
    dictated = Dictated()
    with choosing(dictated):
        layer = Layer("NVFP4", **given.layer)
        built = layer.build("CUTLASS", max(given.tokens))
        for tokens in given.tokens:
            experts(tokens, layer, built, dictated, given.repeats)


if __name__ == "__main__":
    begin(1, ("operator", "step", "m", "gemm", "tactic", "ms", "error"), main,
          sizes=[[16, 2048, 2048], [512, 2048, 2048]], tokens=[16, 256], layer={},
          repeats=20)
