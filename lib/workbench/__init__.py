"""Notebook 11: functions that answer for a tile, spec, pool, gate or model of the reader's."""

from lib.workbench.forms import widget
from lib.workbench.kernels import launch, tile
from lib.workbench.libraries import gate, spec
from lib.workbench.memory import fits, pool

__all__ = ["fits", "gate", "launch", "pool", "spec", "tile", "widget"]
