"""Quantisations by name."""

from dataclasses import dataclass
from enum import Enum


class QuantAlgo(str, Enum):
    NVFP4 = "NVFP4"
    FP8_BLOCK_SCALES = "FP8_BLOCK_SCALES"


@dataclass
class QuantConfig:
    quant_algo: QuantAlgo | None = None
