"""Bug 3: what TensorRT-LLM's gates answer on this GPU, and one layer through each back end.

The layer has random NVFP4 weights; its output is held against a float64 product.
"""

import inspect

from probing import Layer, Missing, attempt, begin, milliseconds, need, relative

# The back ends' classes, in _torch/modules/fused_moe until August 2026 and in _torch/moe/fused_moe
# since (see probing.Layer).
CLASSES = {"TRTLLM": "TRTLLMGenFusedMoE", "CUTLASS": "CutlassFusedMoE",
           "CUTEDSL": "CuteDslFusedMoE"}
ARCHITECTURES = ("MiniMaxM2ForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM")


def resolved(request, architecture, layer):
    """The back end that a request becomes.

    ModelConfig.resolve_moe_backend(moe_backend, architecture[, quant_config]):
    _torch/model_config.py at 01f8de52fefe0a885a9cb5d31a271f3576f9cf32 and, with the third, at
    04c2347be3e41cb7b83eb1f5fadec2818ec24c60.
    """
    resolve = need("tensorrt_llm._torch.model_config:ModelConfig")
    if not hasattr(resolve, "resolve_moe_backend"):
        raise Missing("looked for ModelConfig.resolve_moe_backend")
    resolve = resolve.resolve_moe_backend
    named = {"quant_config": layer.quantised}
    known = inspect.signature(resolve).parameters
    return resolve(request, architecture, **{key: value for key, value in named.items()
                                             if key in known})


def admitted(name, layer):
    """What a class says that it can implement.

    can_implement(quant_algo, dtype_activation, ..) gives a truth and a reason:
    _torch/modules/fused_moe/fused_moe_trtllm_gen.py in xxi-nv/TensorRT-LLM at
    69264cd3dda070a87d6f16500837d980e4ff5c45. Since summer 2026 it takes a problem and a deployment
    that create_moe puts together: then the layers below are the answer.
    """
    one = need(*(f"{folder}:{CLASSES[name]}" for folder in Layer.FOLDERS))
    ask = getattr(one, "can_implement", None)
    if ask is None or "quant_algo" not in inspect.signature(ask).parameters:
        raise Missing(f"looked for {CLASSES[name]}.can_implement(quant_algo)")
    yes, why = ask(layer.quantised.quant_algo)
    return {"admitted": bool(yes), "why": why or ""}


def through(back_end, layer, tokens, repeats):
    """One layer through a back end: the class that it reached, its error and time."""
    built = layer.build(back_end, tokens)
    found = {"class": layer.reached(built)}
    error = relative(layer.forward(built, tokens), layer.reference(tokens))
    return found | {"error": error, "ms": milliseconds(lambda: layer.forward(built, tokens),
                                                       repeats)}


def main(given):
    """Ask the gates, then run the layers."""
    version = need("tensorrt_llm._utils:get_sm_version")
    attempt("the GPU", lambda: {"sm": version()})
    layer = Layer("NVFP4", **given.layer)
    for architecture in ARCHITECTURES:
        attempt(f"AUTO for {architecture}", lambda: {
            "back end": resolved("AUTO", architecture, layer)}, gate="resolve_moe_backend",
            requested="AUTO", architecture=architecture)
    for name in CLASSES:
        attempt(f"can_implement of {name}", lambda: admitted(name, layer), gate="can_implement",
                requested=name)
    for name in given.back_ends:
        def action():
            chosen = resolved(name, ARCHITECTURES[1], layer) if name == "AUTO" else name
            return {"back end": chosen} | through(chosen, layer, given.tokens, given.repeats)
        attempt(f"layer through {name}", action, gate="layer", requested=name, m=given.tokens)


if __name__ == "__main__":
    begin(3, ("gate", "requested", "back end", "class", "admitted", "error", "ms"), main,
          tokens=64, layer={}, repeats=20, back_ends=["AUTO", "TRTLLM", "CUTLASS"])
