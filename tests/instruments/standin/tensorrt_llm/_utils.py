"""What the stand-in's GPU is."""

from tensorrt_llm import behaviour


def get_sm_version():
    return behaviour.SM
