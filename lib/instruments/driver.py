"""CUDA's driver through cuda.bindings: its statuses, and a device's context inside a block."""

from contextlib import contextmanager

from lib.errors import CollectionError


def value(answer):
    """The value behind the status of a call of cuda.bindings, or None; an error on a bad status."""
    status, *values = answer
    if int(status) != 0:
        raise CollectionError(f"CUDA's driver answers {status.name}",
                              "check the driver with nvidia-smi")
    return values[0] if values else None


@contextmanager
def context(cuda=None):
    """Make the first GPU's primary context current for a block, which gets the driver's functions.

    `cuda` is ``cuda.bindings.driver``, or a stand-in. An error if the device gives no context.
    """
    if cuda is None:
        from cuda.bindings import driver as cuda
    value(cuda.cuInit(0))
    device = value(cuda.cuDeviceGet(0))
    value(cuda.cuCtxPushCurrent(value(cuda.cuDevicePrimaryCtxRetain(device))))
    try:
        yield cuda
    finally:
        cuda.cuCtxPopCurrent()
        cuda.cuDevicePrimaryCtxRelease(device)
