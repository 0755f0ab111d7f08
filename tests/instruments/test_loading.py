"""The rules of loading: against ptxas, against NVIDIA's own tables, against each other."""

from functools import partial

import pytest
from cuda.bindings import utils
from hypothesis import given
from hypothesis import strategies as some

from lib.errors import CollectionError
from lib.instruments import loading, ptxas, toolchain
from lib.instruments.images import Image
from lib.survey import refusals

SMS = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
ISAS = list(loading.RULES["cuda"])
DRIVERS = [str(branch) for branch in loading.RULES["driver"]]


def code(sm, suffix="", section=".nv_fatbin"):
    return Image("cubin", sm, suffix, "", section, 0, 0, 0)


def text(sm, suffix="", isa="7.0", section=".nv_fatbin"):
    return Image("ptx", sm, suffix, isa, section, 0, 0, 0)


SECTION = some.sampled_from([".nv_fatbin", "__nv_relfatbin"])
SUFFIX = some.sampled_from(["", "a", "f"])
IMAGES = some.lists(some.builds(code, some.sampled_from(SMS), SUFFIX, SECTION) | some.builds(text, some.sampled_from(SMS), SUFFIX, some.sampled_from(ISAS), SECTION), max_size=5)
rank = loading.HOW.index


@pytest.mark.parametrize("target", ["90", "90a", "100f", "103f", "120", "120f", "121f"])
def test_ptx_is_for_the_gpus_that_ptxas_assembles_it_for(target):
    tc, sm, suffix = toolchain.find(), int(target.rstrip("af")), target.lstrip("0123456789")
    for gpu in (89, 90, 100, 103, 120, 121):
        done = ptxas.run(tc, f"sm_{gpu}{'a' * (gpu >= 90)}", refusals.text(target, "9.0"))[0]
        assert loading.runs(text(sm, suffix), gpu) == (done.returncode == 0), (target, gpu, done.stderr)


@pytest.mark.parametrize("tegra", sorted(loading.TEGRA))
def test_machine_code_of_a_tegra_is_for_itself_alone(tegra):
    assert [sm for sm in SMS if loading.runs(code(tegra), sm)] == [tegra] * (tegra in SMS)
    assert all(loading.runs(code(sm), tegra) == (sm == tegra) for sm in SMS)


def test_the_cuda_of_each_ptx_isa_is_nvidias():
    for isa, cuda in loading.RULES["cuda"].items():
        major, minor = loading.number(cuda)
        assert utils.get_minimal_required_cuda_ver_from_ptx_ver(isa) == 1000 * major + 10 * minor
    assert sorted(loading.RULES["cuda"], key=loading.number) == ISAS
    with pytest.raises(ValueError):  # the table ends where NVIDIA's does
        utils.get_minimal_required_cuda_ver_from_ptx_ver("{}.{}".format(*loading.number(ISAS[-1])[:1], loading.number(ISAS[-1])[1] + 1))


def test_the_branches_of_the_driver_rise_with_their_cuda():
    assert DRIVERS == sorted(DRIVERS, key=int)
    cudas = [loading.number(loading.known(branch)) for branch in DRIVERS]
    assert cudas == sorted(set(cudas))
    assert [loading.known(each) for each in ("570.26", "580.159.04", "581", "999", "440.33")] == ["12.8", "13.0", "13.0", loading.RULES["driver"][DRIVERS[-1]], "0"]


@pytest.mark.parametrize("wrong", ["", "banana", "13.0", "58", "5800", "-580", None])
def test_what_is_no_driver_is_told(wrong):
    with pytest.raises(CollectionError, match="no version of NVIDIA's driver"):
        loading.known(wrong)


@pytest.mark.parametrize("held, sm, driver, how, target", [
    ([code(120), code(121)], 121, "580", "native", "sm_121"),
    ([code(120), code(121)], 120, "580", "native", "sm_120"),
    ([code(120)], 121, "580", "same family", "sm_120"),
    ([code(121)], 120, "580", "nothing loads", None),
    ([code(120, "a")], 121, "580", "nothing loads", None),
    ([code(120, "f"), text(90)], 121, "580", "same family", "sm_120f"),
    ([code(100, "f")], 103, "580", "same family", "sm_100f"),
    ([code(100, "f")], 121, "580", "nothing loads", None),
    ([code(86)], 89, "580", "same family", "sm_86"),
    ([code(90, "a"), text(90, "a", "8.0")], 121, "580", "nothing loads", None),
    ([code(90, "a"), text(80, "", "8.7")], 121, "580", "compiled by the driver", "compute_80"),
    ([text(120, "f", "8.8"), text(90, "", "8.0")], 121, "580", "compiled by the driver", "compute_120f"),
    ([text(120, "f", "9.2"), text(90, "", "8.0")], 121, "580", "compiled by the driver", "compute_90"),
    ([text(120, "f", "9.2")], 121, "580", "nothing loads", None),
    ([code(120, section="__nv_relfatbin"), text(80)], 121, "580", "compiled by the driver", "compute_80"),
    ([Image("lto", 121, "", "", ".nv_fatbin", 0, 0, 0)], 121, "580", "nothing loads", None),
    ([text(80, "", "99.0")], 121, "615", "nothing loads", None),
    ([], 121, "580", "nothing loads", None)])
def test_how_images_get_onto_a_gpu(held, sm, driver, how, target):
    said = loading.how(held, sm, driver)
    assert said.how == how and (said.image and said.image.target) == target
    assert bool(said.todo) == (how == "nothing loads") and said.why


@given(IMAGES, IMAGES, some.sampled_from(SMS), some.sampled_from(DRIVERS), some.sampled_from(DRIVERS))
def test_more_images_and_a_newer_driver_are_never_worse(held, more, sm, one, other):
    older, newer = sorted((one, other), key=int)
    said, later, beside = (loading.how(held, sm, older), loading.how(held, sm, newer), loading.how(held + more, sm, older))
    for better in (later, beside):
        assert better.how != loading.NOTHING or said.how == loading.NOTHING
        if not any(each.relocatable for each in held + more):
            assert rank(better.how) <= rank(said.how)
    assert said.image is None or said.image in held and loading.runs(said.image, sm)


@given(IMAGES, some.sampled_from(SMS), some.sampled_from(DRIVERS))
def test_what_is_advised_helps(held, sm, driver):
    said = loading.how(held, sm, driver)
    if "to branch " in said.todo:
        branch = said.todo.partition("to branch ")[2].partition(":")[0]
        if branch.isdigit():
            assert loading.how(held, sm, branch).how == loading.COMPILED
            assert all(loading.how(held, sm, each).how == loading.NOTHING for each in DRIVERS if int(each) < int(branch))
    elif said.todo:
        target = said.todo.partition("code=[sm_")[2].partition(",")[0]
        assert loading.runs(code(int(target.rstrip("f")), target.lstrip("0123456789")), sm)


def test_fatbins_are_grouped_and_relocatable_ones_count_where_nothing_is_linked():
    part = partial(Image, "cubin", 90, "", "")
    linked, loose = [part(".nv_fatbin", place, 0, 0) for place in (8, 8, 64)], [part("__nv_relfatbin", 256, 0, 0)]
    assert [len(each) for each in loading.fatbins(linked + loose)] == [2, 1]
    assert loading.fatbins(loose) == [loose] and loading.fatbins([]) == []


def test_every_rule_has_its_source():
    for source in loading.RULES["source"].values():
        assert source["link"].startswith("https://") and source["part"]
