"""What the probes share: answers as JSON lines, calls that a revision may not have, and references.

A probe runs in a process of its own, with the Python that has TensorRT-LLM:
``python probes/04-autotuner.py '{"sizes": [1, 64]}'``. Each answer is one line, written at once, so
that a crash or a hang takes none of those before it:
``{"probe": 4, "case": .., "status": "ok|error|missing|skipped", "message": .., "seconds": ..,
"values": {..}}``. ``missing`` names the call that this revision does not have.

Beside each use of TensorRT-LLM stands where it was read: path and commit in NVIDIA/TensorRT-LLM,
unless another repository is named. None of it was run on the real thing (docs/spark.md).
"""

import contextlib
import ctypes
import importlib
import json
import math
import os
import signal
import statistics
import sys
import time
import traceback
from types import SimpleNamespace

if mark := os.environ.get("SM12X_PROBE"):  # of lib.instruments.probes: do not outlive who asked
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(mark.partition("-")[0]):
        sys.exit("who asked is gone")

import torch  # noqa: E402

LONGEST = 600  # characters of a message
# OCP Microscaling Formats 1.0, 5.3: the values of E2M1 (its fourth bit is the sign), and the most.
E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
E4M3_MOST, E2M1_MOST = 448, 6
NUMBER, COLUMNS = None, ()


class Missing(Exception):
    """This revision does not have a call; says which was looked for."""


class Unusable(Exception):
    """The device answers no further call, so the rest of the probe cannot run."""


def say(case, status, message="", seconds=0.0, **values):
    """Print an answer."""
    line = {"probe": NUMBER, "case": case, "status": status, "seconds": round(seconds, 4),
            "message": " ".join(str(message).split())[:LONGEST],
            "values": plain(dict.fromkeys(COLUMNS) | values)}
    # On a line of its own, whatever others print, and in one piece.
    os.write(1, f"\n{json.dumps(line)}\n".encode())


def plain(value):
    """Turn numbers of torch, types and infinities into what JSON holds."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def begin(number, columns, main, **defaults):
    """Run a probe's `main` with the parameters of the command line over its defaults.

    Every answer has the values that `columns` names, None where there is nothing to say.
    """
    global NUMBER, COLUMNS
    NUMBER, COLUMNS = number, columns
    given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    try:
        if unknown := sorted(given.keys() - defaults.keys()):
            raise ValueError(f"no parameter {', '.join(unknown)}; there are: {', '.join(defaults)}")
        main(SimpleNamespace(**defaults | given))
    except Missing as lacking:
        say("the rest of the probe", "missing", lacking)
    except Unusable as error:
        say("the rest of the probe", "skipped", f"the device answers no more: {error}")
    except Exception as error:
        say("the probe", "error", described(error), **place(error))


def described(error):
    """An exception in one line."""
    return f"{type(error).__name__}: {error}"


def place(error):
    """Which exception it is, and in which function it was raised."""
    stack = traceback.extract_tb(error.__traceback__)
    return {"exception": type(error).__name__, "raised in": stack[-1].name if stack else ""}


def attempt(case, action, **values):
    """Run an action and print how it went; its values (dict) join those given. True if it ran.

    Raises Unusable if the device no longer answers after it.
    """
    began = time.perf_counter()
    try:
        found = action() or {}
        synchronise()
    except Missing as lacking:
        say(case, "missing", lacking, time.perf_counter() - began, **values)
        return False
    except Exception as error:
        say(case, "error", described(error), time.perf_counter() - began,
            **values | place(error))
        try:
            synchronise()
        except Exception as gone:
            raise Unusable(described(gone)) from error
        return False
    say(case, "ok", "", time.perf_counter() - began, **values | found)
    return True


def need(*places):
    """The first of some ``module:name`` that this revision has; raises Missing."""
    for each in places:
        module, _, name = each.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
        except AttributeError:
            pass
    raise Missing(f"looked for {' or '.join(places)}")


def operator(name):
    """An operator ``torch.ops.trtllm.name``.

    C++'s are registered by the import of tensorrt_llm (tests/unittest/_torch/thop/
    parallel_hw_agnostic/test_fp4_gemm_arch_fail_fast.py at
    0392c01cfa312d13169fe5f153bfe4b9a59252b4), Python's by _torch/custom_ops.
    """
    importlib.import_module("tensorrt_llm._torch.custom_ops")
    try:
        return getattr(torch.ops.trtllm, name)
    except AttributeError as error:
        raise Missing(f"looked for torch.ops.trtllm.{name}") from error


def device():
    """Where the tensors are: the GPU; the CPU only where the stand-in of the tests runs."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronise():
    """Wait for the device, so that what failed on it is raised here."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(action, repeats):
    """The median time of an action on the current stream."""
    times = []
    for _ in range(repeats):
        if device() == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            action()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            began = time.perf_counter()
            action()
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def random(*shape, seed=0):
    """Normal numbers in bfloat16, the same on every device."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return numbers.to(torch.bfloat16).to(device())


def relative(output, reference):
    """The relative error of an output against a float64 reference: of norms; None if not finite."""
    apart = (output.double() - reference).norm() / reference.norm()
    return float(apart) if torch.isfinite(apart) else None


def nvfp4(matrix, scale=None):
    """Quantise a matrix to NVFP4 by TensorRT-LLM's operator.

    Returns a namespace: ``packed`` (two values a byte), ``scales`` as the kernels take them,
    ``linear`` scales as a checkpoint has them, the global ``scale`` (a tensor), and what it all
    stands for, in float64 (``value``). How to call: tests/unittest/_torch/thop/parallel/
    test_fp4_linear.py at 03631536309a6a06809bb0f7b33e1d0cbc76636e.
    """
    rows, columns = matrix.shape
    if scale is None:
        scale = E4M3_MOST * E2M1_MOST / matrix.abs().max().float()
    packed, scales = operator("fp4_quantize")(matrix, scale, 16, False)
    padded = -(-rows // 128) * 128
    unswizzle = operator("block_scale_interleave_reverse")
    linear = unswizzle(scales.cpu().view(padded, -1))[:rows, :columns // 16].contiguous()
    linear = linear.view(torch.float8_e4m3fn).to(matrix.device)
    table = torch.tensor([*E2M1, *(-each for each in E2M1)], dtype=torch.float64,
                         device=matrix.device)
    codes = packed.view(torch.uint8).long()
    codes = torch.stack((codes & 15, codes >> 4), -1).view(rows, columns)
    value = table[codes].view(rows, -1, 16) * linear.double()[..., None] / scale.double()
    return SimpleNamespace(packed=packed, scales=scales, linear=linear, scale=scale,
                           value=value.view(rows, columns))


def fp8_blocks(matrix):
    """Quantise a weight to FP8 with one float32 scale for each block of 128 x 128.

    Returns the quantised weight, its scales, and what they stand for in float64. The scale is the
    largest absolute value over 448: linear.py, `_get_scale_name`, at
    00bbf71e796406ea8593a77cbfb828356182db16.
    """
    rows, columns = matrix.shape
    blocks = matrix.float().view(rows // 128, 128, columns // 128, 128)
    scales = blocks.abs().amax((1, 3)) / E4M3_MOST
    spread = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    quantised = (matrix.float() / spread).to(torch.float8_e4m3fn)
    return quantised, scales, quantised.double() * spread.double()


# _torch/autotuner.py at b35ac1b64368513d215c57d2ed01d62d910df8da: AutoTuner.get, choose_one(
# custom_op, runners, tuning_config, inputs, **kwargs), clear_cache; autotune.
TUNER = "tensorrt_llm._torch.autotuner"


@contextlib.contextmanager
def choosing(choose):
    """Have the tuner's `choose_one` go through ``choose(original, custom_op, runners, ..)``."""
    tuner = need(f"{TUNER}:AutoTuner").get()
    original = tuner.choose_one
    tuner.choose_one = lambda *words, **named: choose(original, *words, **named)
    try:
        yield tuner
    finally:
        del tuner.choose_one


class Layer:
    """A mixture-of-experts layer of random weights, and its output in float64.

    Built as in tests/unittest/_torch/modules/test_fused_moe.py at
    03dd9bb8387c5c3015f41124da0f338751a177c0 (the names of the weights, ``load_weights``), with
    ``create_moe`` of _torch/modules/fused_moe/create_moe.py at
    01f8de52fefe0a885a9cb5d31a271f3576f9cf32; later revisions moved it to _torch/moe/fused_moe
    (py_executor.py at 0004396720054fd8e205cbf616f21f0b57c6b412 imports from there).

    Parameters
    ----------
    algorithm : str
        ``NVFP4`` or ``FP8_BLOCK_SCALES``.
    experts, top, hidden, intermediate : int
        Sizes; the last two are multiples of 128.
    """

    FOLDERS = ("tensorrt_llm._torch.modules.fused_moe", "tensorrt_llm._torch.moe.fused_moe")

    def __init__(self, algorithm, experts=8, top=2, hidden=1024, intermediate=512):
        self.algorithm, self.sizes = algorithm, (experts, top, hidden, intermediate)
        # models/modeling_utils.py: QuantAlgo, QuantConfig, as that test imports them.
        modelling = "tensorrt_llm.models.modeling_utils"
        algorithms = need(f"{modelling}:QuantAlgo")
        self.quantised = need(f"{modelling}:QuantConfig")(quant_algo=getattr(algorithms, algorithm))
        methods = [f"{folder}:RenormalizeMoeRoutingMethod" for folder in self.FOLDERS]
        self.routing = need(*methods)(top_k=top)
        self.dense, self.weights = [], {}
        for expert in range(experts):
            shapes = {"w1": (intermediate, hidden), "w2": (hidden, intermediate),
                      "w3": (intermediate, hidden)}
            made = {name: random(*shape, seed=1 + 3 * expert + number) / hidden ** 0.5
                    for number, (name, shape) in enumerate(shapes.items())}
            self.dense.append(made)
        self.values = [self.quantise(expert) for expert in range(experts)]

    def quantise(self, expert):
        """Put an expert's weights into the checkpoint's form; what they stand for (dict)."""
        made, values = self.dense[expert], {}
        if self.algorithm == "FP8_BLOCK_SCALES":
            for name, matrix in made.items():
                weight, scales, values[name] = fp8_blocks(matrix)
                # `weight_scale_inv` and `weight_scale` hold the same (linear.py, ibid.)
                self.weights |= {f"{expert}.{name}.weight": weight,
                                 f"{expert}.{name}.weight_scale": scales,
                                 f"{expert}.{name}.weight_scale_inv": scales}
            return values
        most = max(made[name].abs().max() for name in ("w1", "w3")).float()  # they share a scale
        shared = E4M3_MOST * E2M1_MOST / most
        for name, matrix in made.items():
            each = nvfp4(matrix, None if name == "w2" else shared)
            values[name] = each.value
            self.weights |= {f"{expert}.{name}.weight": each.packed,
                             f"{expert}.{name}.weight_scale": each.linear,
                             f"{expert}.{name}.weight_scale_2": 1 / each.scale}
        return values

    def inputs(self, tokens):
        """Hidden states and router logits of some tokens."""
        experts, _, hidden, _ = self.sizes
        return random(tokens, hidden, seed=1000 + tokens), random(tokens, experts, seed=2000)

    def scales(self, most):
        """Add the scales of the activations, for the most tokens, as a calibration would."""
        if self.algorithm != "NVFP4":
            return
        states, logits = self.inputs(most)
        first = E4M3_MOST * E2M1_MOST / states.abs().max().float()
        between = [h.abs().max() for *_, h in self.routed(nvfp4(states, first).value, logits)]
        second = E4M3_MOST * E2M1_MOST / max(between).float()
        self.first, self.second = first, second
        for expert in range(self.sizes[0]):
            self.weights |= {f"{expert}.{name}.input_scale": 1 / (second if name == "w2" else first)
                             for name in ("w1", "w2", "w3")}

    def routed(self, states, logits):
        """For each expert: itself, the tokens that go to it, their weights, what is between."""
        chosen, shares = self.routing.apply(logits)
        for expert, values in enumerate(self.values):
            tokens, place = (chosen == expert).nonzero(as_tuple=True)
            if len(tokens):
                mine = states[tokens]
                gate = torch.nn.functional.silu(mine @ values["w1"].T)
                yield (expert, tokens, shares[tokens, place].double(),
                       gate * (mine @ values["w3"].T))

    def reference(self, tokens):
        """The layer's output in float64 of the quantised values, for the inputs of `tokens`.

        NVFP4's activations are quantised by the operator, as the kernels do; FP8's are not, so that
        their rounding is in the error.
        """
        states, logits = self.inputs(tokens)
        four = self.algorithm == "NVFP4"
        wide = nvfp4(states, self.first).value if four else states.double()
        output = torch.zeros(wide.shape, dtype=torch.float64, device=wide.device)
        for expert, rows, shares, between in self.routed(wide, logits):
            if four:
                between = nvfp4(between.to(torch.bfloat16), self.second).value
            output[rows] += shares[:, None] * (between @ self.values[expert]["w2"].T)
        return output

    def build(self, back_end, most):
        """TensorRT-LLM's own layer with these weights, through a back end, for the most tokens."""
        experts, _, hidden, intermediate = self.sizes
        # The model's facts as tests hand them to create_moe, a PretrainedConfig in a ModelConfig:
        # tests/unittest/_torch/modules/test_moe_routing.py at
        # 13bf121f9bb1b0adaee8015315448617038ce579, which has RenormalizeMoeRoutingMethod too.
        facts = SimpleNamespace(num_experts=experts, hidden_size=hidden,
                                intermediate_size=intermediate, torch_dtype=torch.bfloat16,
                                architectures=["Qwen3MoeForCausalLM"])
        with contextlib.suppress(ImportError):  # a class that TensorRT-LLM needs anyway
            kind = importlib.import_module("transformers.configuration_utils").PretrainedConfig
            given, facts = facts, kind()
            vars(facts).update(vars(given))
        config = need("tensorrt_llm._torch.model_config:ModelConfig")(
            pretrained_config=facts, quant_config=self.quantised, moe_backend=back_end)
        create = need(*(f"{folder}:create_moe" for folder in self.FOLDERS))
        with torch.device(device()):
            layer = create(routing_method=self.routing, num_experts=experts, hidden_size=hidden,
                           intermediate_size=intermediate, dtype=torch.bfloat16,
                           reduce_results=False, model_config=config)
        layer.to(device())
        self.scales(most)
        layer.load_weights([self.weights])
        if hasattr(layer, "post_load_weights"):  # since 2026
            layer.post_load_weights()
        return layer

    @staticmethod
    def reached(layer):
        """The class behind a layer: ConfigurableMoE holds it as ``backend``."""
        return type(getattr(layer, "backend", layer)).__name__

    def forward(self, layer, tokens):
        """The output of a layer for the inputs of `tokens`."""
        states, logits = self.inputs(tokens)
        with torch.inference_mode():
            return layer.forward(states, logits)
