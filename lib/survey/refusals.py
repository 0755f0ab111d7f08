"""What this GPU's driver loads and refuses, beside what the rules of `loading` say of it."""

import ctypes
import re
import struct
import subprocess
import tempfile
import tomllib
from io import BytesIO
from pathlib import Path

import pandas as pd

from lib.errors import CollectionError
from lib.instruments import devices, driver, images, loading, nvcc, ptxas, toolchain

TEXTS = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text())
ISAS = sorted(loading.RULES["cuda"], key=loading.number)
COLUMNS = ["kind", "target", "PTX ISA", "rule", "loads", "driver", "agree"]


def targets(tc):
    """The targets that ptxas knows (list of str, as ``120f``)."""
    said = tc.run("ptxas", "--help").stdout
    return sorted(set(re.findall(r"'sm_(\d+[af]?)'", said)), key=lambda each: (int(
        each.rstrip("af")), each))


def text(target, isa):
    """A kernel as PTX (str)."""
    return TEXTS["kernel"].format(target=f"sm_{target}", isa=isa)


def oldest(tc, target):
    """The oldest PTX ISA of `ISAS` that ptxas takes a target with (its place)."""
    low, high = 0, ISAS.index("9.2")
    while low < high:
        middle = (low + high) // 2
        done, _ = ptxas.run(tc, f"sm_{target}", text(target, ISAS[middle]))
        low, high = (middle + 1, high) if done.returncode else (low, middle)
    return low


def offered(sm, tc):
    """What the driver of a GPU, as 90, is to load (list of `images.Image` and bytes).

    Machine code of every target that ptxas knows; PTX of every target, of the oldest ISA that has
    it; and PTX of the GPU's own target of every ISA from its first to ones that no driver knows.
    """
    found = []
    for target in targets(tc):
        first = oldest(tc, target)
        done, cubin = ptxas.run(tc, f"sm_{target}", text(target, ISAS[first]))
        if done.returncode:
            raise CollectionError(f"ptxas does not assemble for sm_{target}: "
                                  f"{done.stderr.strip()[:200]}", tc.mend)
        found.append((images.read(BytesIO(cubin))[0], cubin))
        for isa in [*ISAS[first:], "99.0"] if target == str(sm) else ISAS[first:first + 1]:
            source = text(target, isa).encode() + b"\0"
            number, suffix = re.fullmatch(r"(\d+)([af]?)", target).groups()
            found.append((images.Image("ptx", int(number), suffix, isa, "", 0, 0, len(source)),
                          source))
    return found


def relinked(sm, tc):
    """Relocatable code for a GPU below one, with PTX: its images, and a program that launches it.

    As `offered`, in a list of one, or none if no target is below. The linked image is for another
    major number, so that only the driver's linker can bring it there, from its PTX: of the oldest
    ISA that has the target, written over the compiler's own, so that a driver of today knows it.
    """
    below = [target for target in targets(tc) if target.isdigit() and int(target) // 10 < sm // 10]
    if not below:
        return []
    isa, own = ISAS[oldest(tc, below[0])], f"arch=compute_{below[0]}"
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        unit, program = Path(folder, "unit.cu"), Path(folder, "program")
        unit.write_text(TEXTS["program"])
        done = tc.run("nvcc", "-rdc=true", "-no-compress", "-ccbin", nvcc.host_compiler(), unit,
                      f"-gencode={own},code=[sm_{below[0]},compute_{below[0]}]", "-o", program,
                      *(f"-I{each}" for each in tc.include), cwd=folder)
        if done.returncode:
            raise CollectionError(f"nvcc does not build the program of relocatable code: "
                                  f"{nvcc.first_error(done.stdout + done.stderr)}", tc.mend)
        made, = {each.ptx for each in images.read(program) if each.kind == "ptx"}
        content = program.read_bytes().replace(f".version {made}".encode(),
                                               f".version {isa}".encode())
        written, wanted = (struct.pack("<HHI", *map(int, reversed(each.split("."))), int(below[0]))
                           for each in (made, isa))  # in the image's header: minor, major, SM
        content = content.replace(written, wanted)
        return [(images.read(BytesIO(content)), content)]


def trials(cuda=None, gpu=None, cuda_version=""):
    """Have the driver load images of every kind on the first GPU, and hold the rules against it.

    A DataFrame, empty without a GPU; a row for each image: kind, target, PTX ISA, rule (one of
    `loading.HOW`), loads (whether it says that it loads), driver (``loaded``, or its error), agree.
    The last row, ``relocatable ptx``, is a program that is run. It takes about 20 s.

    >>> refusals.trials()["agree"].all()  # doctest: +SKIP
    True

    `cuda`, `gpu` and `cuda_version` stand in for cuda.bindings.driver, the GPU and CUDA's version.
    """
    if not (gpu := gpu or next(iter(devices.gpus()), None)):
        return pd.DataFrame(columns=COLUMNS)
    tc, version = toolchain.find(), loading.number(cuda_version or devices.cuda_version())
    branch = max((int(each) for each, has in loading.RULES["driver"].items()
                  if loading.number(has) <= version), default=100)
    rows = []

    def add(kind, image, answer, said):
        loads = answer.how != loading.NOTHING
        rows.append((kind, image.target, image.ptx, answer.how, loads, said,
                     loads == (said == "loaded")))

    with driver.context(cuda) as cuda:
        for image, content in offered(gpu.sm, tc):
            held = ctypes.create_string_buffer(content, len(content))
            status, module = cuda.cuModuleLoadData(ctypes.addressof(held))
            if int(status) == 0:
                cuda.cuModuleUnload(module)
            add(image.kind, image, loading.how([image], gpu.sm, f"{branch}"),
                "loaded" if int(status) == 0 else status.name)
    for held, program in relinked(gpu.sm, tc):
        answer = loading.how(held, gpu.sm, f"{branch}")
        image = answer.image or next(each for each in held if each.kind == "ptx")
        add("relocatable ptx", image, answer, ran(program))
    return pd.DataFrame(rows, columns=COLUMNS)


def ran(program):
    """What a program (bytes) prints (str); its status if it prints nothing."""
    with tempfile.TemporaryDirectory(prefix="sm12x-") as folder:
        path = Path(folder, "program")
        path.write_bytes(program)
        path.chmod(0o755)
        done = subprocess.run([path], capture_output=True, text=True, timeout=120)
        return done.stdout.strip() or f"ended with {done.returncode}"
