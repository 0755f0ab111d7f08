"""The machine: figures of the driver where there is one, a reason where there is none; the toolchain and what it is asked."""

import dataclasses

import pytest

from lib.errors import CollectionError
from lib.instruments import architectures, devices, nvcc, ptxas, toolchain


def test_no_driver_is_no_error():
    found = devices.gpus()
    assert bool(found) != bool(devices.why_none())
    assert all(gpu.as_dict()["sm"] == gpu.capability[0] * 10 + gpu.capability[1] for gpu in found)


def test_the_toolchain_is_the_pinned_one():
    tc = toolchain.find()
    assert tc.version == toolchain.version_of(tc.tool("nvcc")) == "13.2.86"
    assert all(tc.tool(name).is_file() for name in ("ptxas", "cuobjdump", "nvdisasm")) and len(tc.include) == 2
    with pytest.raises(CollectionError, match="no bin/nvfoo in .*\\n  next: delete .* and run again"):
        tc.tool("nvfoo")


def test_a_system_cuda_that_is_none_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("SM12X_CUDA_HOME", str(tmp_path))
    with pytest.raises(CollectionError, match="no bin/nvcc in .*\\n  next: correct SM12X_CUDA_HOME, or unset it"):
        toolchain.find.__wrapped__()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("missing", ["ptxas", "a compiler that is new enough"])
def test_only_who_has_set_a_system_cuda_is_told_to_unset_it(monkeypatch, tmp_path, given, missing):
    """A toolchain without ptxas, or too old, whether it is the pinned one or that of SM12X_CUDA_HOME."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvcc").write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.2, V13.2.86'\n")
    (tmp_path / "bin/nvcc").chmod(0o755)
    tc = dataclasses.replace(toolchain.find(), home=tmp_path)
    if given:
        monkeypatch.setenv("SM12X_CUDA_HOME", str(tmp_path))
        tc = toolchain.find.__wrapped__()
    tc = tc if missing == "ptxas" else dataclasses.replace(tc, version="12.8.93")
    with pytest.raises(CollectionError, match="ptxas is missing" if missing == "ptxas" else "too old") as error:
        nvcc.check(tc, "sm_121a")
    assert ("unset" in error.value.next_step) == given and ("delete" in error.value.next_step) == (not given)


@pytest.mark.parametrize("target, limit", [("sm_100a", 232448), ("sm_120a", 101376), ("sm_121a", 101376), ("sm_121", 49152)])
def test_ptxas_states_the_limit_and_keeps_to_it(target, limit):
    tc = toolchain.find()
    assert ptxas.shared_limit(tc, target) == limit
    body = ".shared .align 16 .b8 big[{}]; st.shared.u32 [big], %r0;"
    assert ptxas.assemble(tc, target, body.format(limit - 512))[0]  # the frame of every snippet declares 264 B beside it
    accepted, said = ptxas.assemble(tc, target, body.format(limit - 264))
    assert not accepted and f"{limit + 8:#x} bytes, {limit:#x} max" in said


def test_a_folder_without_cutlass_is_named(tmp_path):
    with pytest.raises(CollectionError, match="no smem_capacity_bytes"):
        architectures.read_capacities(tmp_path)


def test_the_state_is_what_nvidia_smi_says_and_nothing_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.state() == {}
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA GB10, 580.95.05, 208, 3003, [N/A], 41, 4.51'\n")
    program.chmod(0o755)
    found = devices.state()
    assert found["device"] == "NVIDIA GB10" and found["driver"] == "580.95.05" and found["memory clock (MHz)"] is None
    assert found["SM clock (MHz)"] == 208 and set(found) == set(devices.STATE.values())
