"""The machine: its GPUs as the driver reports them, or why there are none."""

import functools
import subprocess
from dataclasses import asdict, dataclass

from lib.instruments import driver


@dataclass(frozen=True)
class Gpu:
    """One CUDA device; every field is the driver's answer, sizes in bytes.

    Attributes
    ----------
    capability : tuple of int
        Compute capability, for example ``(12, 1)``.
    shared_per_block : int
        Largest shared memory a block may opt in to.
    shared_reserved : int
        Shared memory that CUDA keeps of each block's share.
    pageable_memory_access : bool
        The GPU reads memory from plain ``malloc``: through the host's page
        tables if `host_page_tables`, else in software (HMM), which discrete
        GPUs have too.
    """

    ordinal: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    blocks_per_multiprocessor: int
    shared_per_multiprocessor: int
    shared_per_block: int
    shared_reserved: int
    l2_bytes: int
    memory_bytes: int
    clock_khz: int
    integrated: bool
    unified_addressing: bool
    concurrent_managed_access: bool
    pageable_memory_access: bool
    host_page_tables: bool

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
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(STATE)}",
               "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(STATE.values(), map(_number, done.stdout.strip().split(", "))))


def _number(text: str):
    """A number where the text is one, None where nvidia-smi has no answer, else the text."""
    if text.startswith("["):
        return None
    try:
        return float(text)
    except ValueError:
        return text


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
    get, handle = device.properties, driver.value(cuda.cuDeviceGet(device.device_id))
    capability = device.compute_capability
    return Gpu(
        ordinal=device.device_id,
        name=device.name,
        capability=(capability.major, capability.minor),
        multiprocessors=get.multiprocessor_count,
        threads_per_multiprocessor=get.max_threads_per_multiprocessor,
        blocks_per_multiprocessor=get.max_blocks_per_multiprocessor,
        shared_per_multiprocessor=get.max_shared_memory_per_multiprocessor,
        shared_per_block=get.max_shared_memory_per_block_optin,
        shared_reserved=get.reserved_shared_memory_per_block,
        l2_bytes=get.l2_cache_size,
        memory_bytes=driver.value(cuda.cuDeviceTotalMem(handle)),
        clock_khz=get.clock_rate,
        integrated=get.integrated,
        unified_addressing=get.unified_addressing,
        concurrent_managed_access=get.concurrent_managed_access,
        pageable_memory_access=get.pageable_memory_access,
        host_page_tables=get.pageable_memory_access_uses_host_page_tables,
    )
