"""Times on a GPU by CUDA events, and samples as a median with its quartiles."""

import numpy as np
import torch

from lib.instruments import devices

REPEATS, WARM = 20, 3


def why_not():
    """Why nothing can be timed here, in one line; the empty string where it can be."""
    if not devices.gpus():
        return f"No CUDA GPU here ({devices.why_none()}); the measurements are skipped."
    if not torch.cuda.is_available():
        return (f"A GPU is here, but torch {torch.__version__} cannot use it; "
                "install a CUDA build of torch to measure.")
    return ""


def spread(samples, name):
    """Median and quartiles of samples, under columns that start with `name` (dict)."""
    low, middle, high = np.percentile(samples, (25, 50, 75))
    return {name: middle, f"{name}, lower quartile": low, f"{name}, upper quartile": high}


def elapsed(action, repeats=REPEATS, before=lambda: None):
    """Milliseconds of an action on the current stream, by CUDA events (list of float, one a
    repeat).

    `before` is called ahead of each repeat, untimed; the repeat waits behind what it leaves on the
    stream.
    """
    samples = []
    for turn in range(WARM + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before()
        start.record()
        action()
        end.record()
        torch.cuda.synchronize()
        if turn >= WARM:
            samples.append(start.elapsed_time(end))
    return samples
