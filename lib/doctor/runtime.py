"""Bugs 2 to 5: the lines that decide them, by what the notebooks 02 to 05 found. Patterns, not line numbers."""

import os
import re

from . import CANNOT_TELL, FIXED, PRESENT
from .checks import absent, check, numbers, unknown, unreadable

GUARD = (r"^(?!\s*assert\b).*(?:in_bounds\(|\b_?fits\(|except \(?IndexError|[<>]=?\s*len\(|len\([^()]*(?:\([^()]*\))?\)\s*[<>]"
         r"|[<>]=?\s*ranks\[)")
SPECS = r"^\s*for\b.*\b(?:dynamic_tensor_specs|constraint_specs)\b"
ONE_MEMORY = (r"(?:[sS]haresHostMemory|isUnifiedMemorySystem|[iI]sIntegrated\w*|is_device_integrated)\(\)"
              r"|\bis_integrated\b|unified_memory_detected")


def kv_cpp(tree):
    """Bug 2: whether the published change is in the C++ (its predicate is in a header that wheels carry)."""
    header = tree.source("cpp/include/tensorrt_llm/common/cudaUtils.h", "tensorrt_llm/include/tensorrt_llm/common/cudaUtils.h",
                         "include/tensorrt_llm/common/cudaUtils.h")
    manager = tree.source("cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp")
    what = "C++ manager"
    for source in filter(None, (manager, header)):
        if wrong := unreadable(what, source):
            return wrong
    if manager and (line := manager.find(r"isUnifiedMemorySystem\(\)\)\s*\{\s*mTransferManager->(?:offload|onboard)")[1]):
        return check(what, PRESENT, line, "the published change is in: copies are skipped, and a block that comes back is stale")
    if manager and (line := manager.find(rf"(?:{ONE_MEMORY})[^}}]*[sS]econdary\w*\s*=\s*0;")[1]):
        return check(what, FIXED, line, "no second pool on a GPU that shares the host's memory")
    if manager and (line := manager.first(r"[Ss]econdary\w* =.*getHostCacheSize\(\)")):
        return check(what, PRESENT, line, "a second pool is made in the same memory if a host cache size is set")
    if header and (line := header.first(r"isUnifiedMemorySystem\(")):
        return check(what, CANNOT_TELL, line, "this build has the pull request's predicate, and what it does with it is compiled")
    return absent(what, tree, ["cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp"],
                  "The engine path is compiled where only a wheel is installed.")


def kv_python(tree):
    """Bug 2: the PyTorch path, which sizes the second pool in Python."""
    what, names = "PyTorch path", ["tensorrt_llm/_torch/pyexecutor/resource_manager.py"]
    if not (file := tree.source(*names)):
        return absent(what, tree, names)
    if wrong := unreadable(what, file):
        return wrong
    near = rf"(?:{ONE_MEMORY})(?:[^\n]*\n){{0,4}}[^\n]*host_cache_size|host_cache_size[^\n]*(?:{ONE_MEMORY})"
    arguments = tree.source("tensorrt_llm/llmapi/llm_args.py")
    asks = next((line for source in (file, arguments) if source and (line := source.find(near)[1])), None)
    made = file.first(r"_secondary_pool_memory_bytes\s*=.*host_cache_size") or file.first(r"host_cache_size")
    if asks and made:
        return check(what, FIXED, asks, "the host pool is decided by whether the GPU shares the host's memory")
    if made:
        return check(what, PRESENT, made, "a second pool is made in the same memory if host_cache_size is set")
    return unknown(what, file, "host_cache_size")


def moe_trtllm(tree, sm):
    """Bug 3 in TensorRT-LLM: the lists of the back ends, and whether a request for TRTLLM falls back."""
    folder, what = "tensorrt_llm/_torch/modules/fused_moe/", "TRTLLM back end"
    gate, config = tree.source(folder + "fused_moe_trtllm_gen.py"), tree.source("tensorrt_llm/_torch/model_config.py")
    checks, back = [], None
    for start, end in config.functions("resolve_moe_backend") if config else ():
        back = config.first(r"\bTRTLLM\b.*\bsm_version\b.*\bnot in\b|\bsm_version\b.*\bnot in\b.*\bTRTLLM\b", start, end)
    if back:
        checks.append(check(what, FIXED, back, f"asked for on SM{sm}, it is replaced by one that has kernels"))
    elif not gate:
        checks.append(absent(what, tree, [folder + "fused_moe_trtllm_gen.py"]))
    elif wrong := unreadable(what, gate):
        checks.append(wrong)
    else:
        pattern = r"sm\w* (not )?in\s*[({][\d,\s]+[)}]|_SUPPORTED_SM\w*\s*=|is_sm_?100_?f\w*\(|is_blackwell\("
        spans = gate.functions("can_implement")
        lines = [line for start, end in spans if (line := gate.first(pattern, start, end))]
        lines += [line for line in [gate.first(r"_SUPPORTED_SM\w*\s*="), gate.first(r"sm_version >= 120")] if line]
        if not lines:
            checks.append(unknown(what, gate, "a list of architectures"))
        elif sm in numbers(lines[0].text) - numbers("100 103") or "is_blackwell(" in lines[0].text:
            checks.append(check(what, PRESENT, lines[0], f"the list was widened: it admits SM{sm}, for which this back end has no kernel"))
        else:
            note = f"SM{sm} is not admitted, and rightly: none of this back end's kernels runs on it"
            checks.append(check(what, PRESENT, lines[0], note))
    cutlass = tree.source(folder + "fused_moe_cutlass.py")
    found, line = cutlass.find(r'QuantAlgo\.NVFP4:\s*\{\s*"sm_constraint":\s*\("in",\s*\{([\d,\s]+)\}') if cutlass else (None, None)
    if found:
        line = cutlass.first(r"sm_constraint", line.number) or line
        admits = sm in numbers(found[1])
        note = f"its NVFP4 list {'admits' if admits else 'leaves out'} SM{sm}, for which it has kernels"
        checks.append(check("CUTLASS back end", FIXED if admits else PRESENT, line, note))
    other = next((name for name in ("fused_moe_cute_dsl_b12x.py", "fused_moe_flashinfer_nvfp4_sm12x.py") if tree.has(folder + name)), None)
    if other and (line := tree.source(folder + other).first(rf"_SUPPORTED_SM\w*\s*=.*{sm}")):
        checks.append(check("b12x back end", FIXED, line, f"written for SM{sm}"))
    return checks


def moe_flashinfer(tree, sm):
    """Bug 3 in FlashInfer: its checks of the trtllm-gen MoE module, and whether the runner looks at the GPU."""
    checks, core = [], tree.source("flashinfer/fused_moe/core.py")
    what = "trtllm-gen module"
    if not core:
        return [absent(what, tree, ["flashinfer/fused_moe/core.py"])]
    if wrong := unreadable(what, core):
        return [wrong]
    spans = core.functions("is_trtllm_moe_supported")
    line = next((line for start, end in spans if (line := core.first(r"arch\w*\[0\]\s*(?:<|!=|not in)", start, end))), None)
    if line:
        right = "<" not in line.text
        note = f"it {'refuses' if right else 'admits'} SM{sm}, for which there is no trtllm-gen kernel"
        checks.append(check("support check", FIXED if right else PRESENT, line, note))
    else:
        checks.append(unknown("support check", core, "is_trtllm_moe_supported with its test of the architecture"))
    early = [line for start, end in core.functions("_?get_trtllm_moe_sm100_module(?:_impl)?")
             if (line := core.first(r"major != 10|not in \(?\(?10", start, min(end, start + 12)))]
    jit = tree.source("flashinfer/jit/fused_moe.py")
    spans = jit.functions("gen_trtllm_gen_fused_moe_sm100_module") if jit else ()
    flags = next((line for start, end in spans if (line := jit.first(r"supported_major_versions=", start, end))), None)
    if early:
        checks.append(check(what, FIXED, early[0], "it refuses before anything is compiled, and names what to use"))
    elif flags:
        note = f"it ends in a RuntimeError on SM{sm} that names no way out"
        checks.append(check(what, PRESENT, flags, f"it is compiled for SM{sm}, for which it has no kernel" if "12" in flags.text else note))
    runner = tree.source("flashinfer/data/csrc/trtllm_batched_gemm_runner.cu", "csrc/trtllm_batched_gemm_runner.cu")
    if runner and not runner.problem:
        looks = runner.first(r"isArchCompatible\(.*mSm\)|\bruns\(configs\[")
        begins = runner.first(r"mPassingConfigIndices\.clear\(\)")
        if looks or begins:
            note = "kernels are picked by architecture" if looks else "kernels are picked from here on, whatever the GPU is"
            checks.append(check("runner", FIXED if looks else PRESENT, looks or begins, note))
    return checks


def tuner(tree, names):
    """Bug 4: whether the autotuner tests a spec against the shapes, at look-up and in warm-up; a check in one loop alone does not count."""
    if not (file := tree.source(*names)):
        return [absent("autotuner", tree, names)]
    if wrong := unreadable("autotuner", file):
        return [wrong]
    checks = []
    for what, name in (("look-up", "_find_nearest_profile(?:_cached)?"), ("warm-up", "_(?:generate_)?optimization_profiles")):
        answers = [answer for start, end in file.functions(name) if (answer := loops(file, start, end))]
        for guarded, line in answers[:1]:
            note = "a spec is held against the shapes" if guarded else "a spec that does not fit the shapes ends in an IndexError here"
            checks.append(check(what, FIXED if guarded else PRESENT, line, note))
        if not answers:
            checks.append(unknown(what, file, "a loop over specs that writes into the profile"))
    return checks


def loops(file, start, end):
    """Whether all loops over specs between two lines are guarded, and the line that decides; None where there is no such loop."""
    heads = [number for number in range(start, end + 1) if re.search(SPECS, file.code[number - 1])]
    if not heads:
        return None
    if guard := file.first(GUARD, start, heads[0]):
        return True, guard
    bodies = [(head, file.block(head, end)) for head in heads]
    for head, last in bodies:
        if not file.first(GUARD, head + 1, last):
            return False, file.first(r"\]\s*\[", head + 1, last) or file.at(head)
    return True, file.first(GUARD, heads[0] + 1, bodies[0][1])


def attention_trtllm(tree, sm):
    """Bug 5 in TensorRT-LLM: what the C++ operator and the Python path do on SM12x."""
    what, names = "C++ operator", ["cpp/tensorrt_llm/common/attentionOp.h"]
    header = tree.source("cpp/include/tensorrt_llm/common/cudaUtils.h", "tensorrt_llm/include/tensorrt_llm/common/cudaUtils.h")
    maps = header and header.find(r"==\s*121[^;{]*\)\s*\{?\s*return 120;")[1]
    at = f"{os.path.basename(maps.file)}:{maps.number}" if maps else ""
    checks, file = [], tree.source(*names)
    if not file:
        known = f"Its header does report SM121 as 120 ({at}), which every condition that we read, from April 2025 on, leaves out."
        checks.append(absent(what, tree, names, known if maps else "It is compiled where only a wheel is installed."))
    elif wrong := unreadable(what, file):
        checks.append(wrong)
    elif not (line := file.first(r"\bmUseTllmGen\b.*=")):
        checks.append(unknown(what, file, "mUseTllmGen"))
    elif "isSM100Family" in line.text or f"!= {sm}" in line.text:
        checks.append(check(what, FIXED, line, f"SM{sm} takes the other kernels"))
    elif "!= 120" in line.text and maps:
        checks.append(check(what, FIXED, line, f"SM121 is reported as 120 ({at}), and so takes the other kernels"))
    elif "!= 120" in line.text and not (header and not header.problem):
        checks.append(check(what, CANNOT_TELL, line, "whether SM121 is reported as 120 is in cudaUtils.h, which is not here"))
    else:
        checks.append(check(what, PRESENT, line, f"SM{sm} is sent to trtllm-gen, which has no kernel for it"))
    folder = "tensorrt_llm/_torch/attention_backend/"
    python = tree.source(folder + "fmha/flashinfer_trtllm_gen.py", folder + "trtllm_gen.py")
    if python and not python.problem and (line := python.first(r"not is_sm_?100\w*\(|sm\w* not in [({]?\s*100")):
        checks.append(check("Python path", FIXED, line, f"SM{sm} is turned down, and the fallback runs"))
    return checks


def attention_flashinfer(tree, sm):
    """Bug 5 in FlashInfer: the runner's assertion, and the choice of the back end."""
    what, folders = "trtllm-gen runner", ("flashinfer/data/include/", "include/")
    names = [folder + "flashinfer/trtllm/fmha/fmhaRunner.cuh" for folder in folders]
    checks, runner = [], tree.source(*names)
    if not runner:
        checks.append(absent(what, tree, names[:1]))
    elif wrong := unreadable(what, runner):
        checks.append(wrong)
    else:
        found, line = runner.find(r'CHECK\(mSM == kSM_100[^;]*;')
        if not found:
            checks.append(unknown(what, runner, "its check of the architecture"))
        elif "Unsupported architecture" in found[0]:
            checks.append(check(what, PRESENT, line, f"it refuses SM{sm} with “Unsupported architecture”, which names no way out"))
        else:
            checks.append(check(what, FIXED, line, f"it refuses SM{sm} and says what to use"))
    decode = tree.source("flashinfer/decode.py")
    if decode and (line := decode.first(r'"trtllm-gen" if get_compute_capability\([^)]*\)\[0\] == 10 else "xqa"')):
        checks.append(check("decode, auto", FIXED, line, f"SM{sm} takes XQA"))
    return checks
