"""Notebook 11: functions that answer for a tile, spec, pool, gate or model of the reader's."""

from lib.workbench.answers import Answer
from lib.workbench.forms import widget
from lib.workbench.kernels import launch, tile
from lib.workbench.memory import fits
from lib.workbench.moe import gate
from lib.workbench.pools import pool
from lib.workbench.tuners import spec

__all__ = ["Answer", "fits", "gate", "launch", "pool", "spec", "tile", "widget"]
