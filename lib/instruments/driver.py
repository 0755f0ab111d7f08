"""CUDA's driver through cuda.bindings: its statuses, and a device's context inside a block."""

from contextlib import contextmanager

from lib.errors import CollectionError


def value(answer, next_step="check the driver with nvidia-smi"):
    """Unwrap what a call of cuda.bindings gave: the value behind its status, or None.

    Raises
    ------
    CollectionError
        With the status's name, if it is not success.
    """
    status, *values = answer
    if int(status) != 0:
        raise CollectionError(f"CUDA's driver answers {status.name}", next_step)
    return values[0] if values else None


@contextmanager
def context(ordinal=0, cuda=None):
    """Make a device's primary context current for the length of a block.

    Parameters
    ----------
    ordinal : int
        The device, in the driver's order.
    cuda : module, optional
        ``cuda.bindings.driver``, or a stand-in.

    Yields
    ------
    module
        The driver's functions; each gives its status first.

    Raises
    ------
    CollectionError
        If there is no such device, or it gives no context.
    """
    if cuda is None:
        from cuda.bindings import driver as cuda
    value(cuda.cuInit(0))
    device = value(cuda.cuDeviceGet(ordinal))
    value(cuda.cuCtxPushCurrent(value(cuda.cuDevicePrimaryCtxRetain(device))))
    try:
        yield cuda
    finally:
        cuda.cuCtxPopCurrent()
        cuda.cuDevicePrimaryCtxRelease(device)
