"""The machine: its GPUs as the driver reports them, or why there are none."""

import contextlib
import functools
import subprocess
from dataclasses import asdict, dataclass, field, fields

from lib.instruments import driver


def of(name):
    """A field that is this property of cuda.core's device."""
    return field(metadata={"property": name})


@dataclass(frozen=True)
class Gpu:
    """One CUDA device; every field is the driver's answer, sizes in bytes."""

    ordinal: int
    name: str
    capability: tuple[int, int]  # for example (12, 1)
    multiprocessors: int = of("multiprocessor_count")
    threads_per_multiprocessor: int = of("max_threads_per_multiprocessor")
    blocks_per_multiprocessor: int = of("max_blocks_per_multiprocessor")
    shared_per_multiprocessor: int = of("max_shared_memory_per_multiprocessor")
    shared_per_block: int = of("max_shared_memory_per_block_optin")
    shared_reserved: int = of("reserved_shared_memory_per_block")  # CUDA keeps it, of each block's
    l2_bytes: int = of("l2_cache_size")
    memory_bytes: int
    clock_khz: int = of("clock_rate")
    integrated: bool = of("integrated")
    unified_addressing: bool = of("unified_addressing")
    concurrent_managed_access: bool = of("concurrent_managed_access")
    # The GPU reads memory from plain malloc: through the host's page tables if the next is true,
    # else in software (HMM), which discrete GPUs have too.
    pageable_memory_access: bool = of("pageable_memory_access")
    host_page_tables: bool = of("pageable_memory_access_uses_host_page_tables")

    @property
    def sm(self) -> int:
        """The architecture's number, for example 121."""
        return self.capability[0] * 10 + self.capability[1]

    def as_dict(self) -> dict:
        """The fields as JSON-ready values."""
        return {**asdict(self), "capability": list(self.capability), "sm": self.sm}


def gpus() -> list[Gpu]:
    """GPUs of this machine in the driver's order; empty where there are none. Never raises."""
    return list(_probe()[0])


def tier() -> str:
    """The tier that the first GPU reaches: ``sm12x`` or ``gpu``; the empty string without one."""
    return "".join("sm12x" if gpu.capability[0] == 12 else "gpu" for gpu in gpus()[:1])


def why_none() -> str:
    """Why `gpus` is empty, in one line; the empty string where it is not."""
    return _probe()[1]


def cuda_version() -> str:
    """CUDA version that the driver supports, for example ``13.2``; empty without a driver."""
    return _probe()[2]


# What nvidia-smi is asked for, and under which name it is kept; a GB10 has no answer to some
# ("[N/A]"), which is kept as None.
STATE = {"name": "device", "driver_version": "driver", "clocks.sm": "SM clock (MHz)",
         "clocks.max.sm": "highest SM clock (MHz)", "clocks.mem": "memory clock (MHz)",
         "temperature.gpu": "temperature (C)", "power.draw": "power (W)"}


def state() -> dict:
    """The first GPU as it is found now: `STATE`, by nvidia-smi; empty without it. Never raises."""
    def number(text):
        with contextlib.suppress(ValueError):
            return None if text.startswith("[") else float(text)
        return text

    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(STATE)}",
               "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(STATE.values(), map(number, done.stdout.strip().split(", "))))


@functools.cache
def _probe() -> tuple[tuple[Gpu, ...], str, str]:
    # The set of exceptions is open: a missing package, a missing or too old libcuda, a driver
    # that refuses to initialise and a device in a bad state each raise a type of their own.
    version = ""
    try:
        from cuda.bindings import driver as cuda
        from cuda.core import Device

        encoded = driver.value(cuda.cuDriverGetVersion())
        version = f"{encoded // 1000}.{encoded % 1000 // 10}"
        found = tuple(_read(device, cuda) for device in Device.get_all_devices())
    except Exception as error:
        return (), f"{type(error).__name__}: {' '.join(str(error).split())}", version
    return found, "" if found else "The driver lists no CUDA device.", version


def _read(device, cuda) -> Gpu:
    said, handle = device.properties, driver.value(cuda.cuDeviceGet(device.device_id))
    known = {each.name: getattr(said, each.metadata["property"])
             for each in fields(Gpu) if each.metadata}
    return Gpu(ordinal=device.device_id, name=device.name,
               capability=tuple(device.compute_capability),
               memory_bytes=driver.value(cuda.cuDeviceTotalMem(handle)), **known)
