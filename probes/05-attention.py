"""Bug 5: which attention kernels run in a short generation, by the profiler's names.

The model runs in this process, so that the profiler sees its kernels. The first phase is a prompt
with one token of answer, the context; the second is what more tokens launch beyond that, the
generation.
"""

import gc
import os

from probing import Missing, attempt, begin, need, say

os.environ["TLLM_WORKER_USE_SINGLE_PROCESS"] = "1"  # no worker of its own (see `main`)

import torch  # noqa: E402
from torch.autograd import DeviceType  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

# By what the families call their kernels: trtllm-gen's cubins in FlashInfer's flashinfer-cubin
# 0.6.6 (notebook 05), FMHA v2's generator in FlashInfer's wheel, and by the names kernel_mha and
# masked_multihead_attention_kernel in the sources of XQA and of the masked attention.
FAMILIES = {"trtllm-gen": ("fmhaSm100", "fmhaSm103", "trtllmgen"),
            "FMHA v2": ("fmha_v2",), "XQA": ("xqa", "kernel_mha"),
            "masked multi-head attention": ("masked_multihead_attention", "mmha"),
            "FlashInfer": ("BatchPrefillWith", "BatchDecodeWith"),
            "PyTorch": ("flash_fwd", "fmha_cutlass", "efficient_attention")}


def family(name):
    """The family of a kernel; empty if it computes no attention that is known here."""
    low = name.lower()
    return next((family for family, words in FAMILIES.items()
                 if any(word.lower() in low for word in words)), "")


def kernels(action):
    """What an action ran on the device: name to launches and microseconds."""
    there = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if there else [])]
    with profile(activities=activities) as seen:
        action()
        torch.cuda.synchronize() if there else None
    wanted = DeviceType.CUDA if there else DeviceType.CPU  # the CPU: the stand-in of the tests
    found = {}
    for event in seen.events():
        if event.device_type == wanted:
            launches, spent = found.get(event.name, (0, 0.0))
            time = getattr(event, "device_time_total", 0) if there else event.cpu_time_total
            found[event.name] = launches + 1, spent + time
    return found


def main(given):
    """Generate twice, and print the attention kernels of each phase.

    LLM, SamplingParams: as in probe 2. TLLM_WORKER_USE_SINGLE_PROCESS keeps the worker in this
    process: tests/unittest/_torch/speculative/test_dynamic_spec_decode.py at
    0b024710e4594c430d1010e22dda100fddae5c6f sets it for that reason.
    """
    if not given.model_dir:
        raise Missing("no model: name the folder of a small one in model_dir")
    model, sampling = need("tensorrt_llm:LLM"), need("tensorrt_llm:SamplingParams")
    cache = need("tensorrt_llm.llmapi:KvCacheConfig")(enable_block_reuse=False,
                                                      max_tokens=4 * given.length)
    llm = model(model=given.model_dir, kv_cache_config=cache, cuda_graph_config=None,
                max_batch_size=1, max_seq_len=2 * given.length)
    words = [100 + 17 * place % 20_000 for place in range(given.length)]
    tokens = []

    def generate(most):
        said = llm.generate([words], sampling(max_tokens=most, temperature=0, ignore_eos=True))
        tokens.append(list(said[0].outputs[0].token_ids))

    before = {}
    try:
        generate(2)  # what is compiled at first use is not profiled
        for phase, most in (("context", 1), ("generation", given.answer)):
            found = {}
            ran = attempt(phase, lambda: found.update(kernels(lambda: generate(most))),
                          phase=phase)
            if not ran:
                continue
            beyond = {name: (launches - before.get(name, (0, 0))[0],
                             spent - before.get(name, (0, 0))[1])
                      for name, (launches, spent) in found.items()}
            before = found
            found = {name: each for name, each in beyond.items() if each[0] > 0}
            known = {name: each for name, each in found.items() if family(name)}
            for name, (launches, spent) in sorted(known.items(), key=lambda item: -item[1][1]):
                say(f"{phase}: {name[:80]}", "ok", phase=phase, kernel=name, family=family(name),
                    launches=launches, microseconds=spent)
            say(f"{phase}: all", "ok", phase=phase, kernels=len(found), attention=len(known),
                tokens=len(tokens[-1]),
                others=[] if known else sorted(found, key=lambda name: -found[name][1])[:10])
        say("the tokens", "ok", tokens=tokens[-1][:16], again=tokens[-1][:2] == tokens[0][:2])
    finally:
        llm.shutdown()
        gc.collect()


if __name__ == "__main__":
    begin(5, ("phase", "kernel", "family", "launches", "microseconds"), main,
          model_dir="", length=256, answer=16)
