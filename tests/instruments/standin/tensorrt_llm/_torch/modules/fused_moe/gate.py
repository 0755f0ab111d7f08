"""The list of one back end, apart, for patches of tests."""

TRTLLM = (100, 103)
