"""A stand-in for TensorRT-LLM of our own writing, for tests; see the README beside this folder."""

import os
import sys

from tensorrt_llm import behaviour

__version__ = "0.0.standin"
behaviour.at_import()

from tensorrt_llm import operators  # noqa: E402, F401
from tensorrt_llm.llmapi import LLM, SamplingParams  # noqa: E402, F401

if "rubbish" in behaviour.IS:
    sys.stdout.flush()
    os.write(1, b'{"probe": 1, "case": "cut off", "status": "o')
