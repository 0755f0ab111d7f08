"""The explorer of kernels in a real browser: by mouse, keyboard and address, on a phone, in the dark, and its table without scripts."""

import json

import pytest

from lib.atlas import explorer, measured
from lib.bug1_shared_memory import gemm
from lib.evidence import explorers
from tests.conftest import ROOT, needs_chromium

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def shown():
    return explorer.Explorer(measured.kept())


@pytest.fixture(scope="module")
def address(shown, tmp_path_factory):
    """A page with the explorer alone, in the style of the site, where its state is in the address."""
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "style.css").write_text((ROOT / "lib/report/templates/style.css").read_text())
    inside = shown._repr_mimebundle_()["text/html"]
    (folder / "page.html").write_text(f"<!doctype html><html lang=en><title>atlas</title><link rel=stylesheet href='style.css'><main>{inside}</main>")
    return (folder / "page.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page at a fragment of its address, on a phone."""
    opened = []

    def one(fragment="", **how):
        page = browser.new_page(viewport={"width": 390, "height": 844}, **how)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(address + fragment)
        opened.append(page)
        return page

    yield one
    for page in opened:
        page.close()


def says(page):
    return page.locator(".explorer .says").inner_text()


@needs_chromium
def test_the_reader_picks_a_kernel_and_sees_what_cutlass_said(visit):
    page, table = visit(), measured.kept()
    spark = table[(table["target"] == "sm_121a") & (table["of"] == "0.6.6") & (table["a"] == "nvfp4") & ~table["grouped"] & (table["fusion"] == "linear")
                  & (table["schedule"] == "cooperative") & ~table["swap_ab"] & (table["fixed_stages"] == 0) & (table["d"] == "bf16")]
    for name, value in {"Compiled for": "sm_121a", "Operands": "NVFP4", "Kernel": "dense", "Schedule": "cooperative", "Output": "bf16", "Epilogue": "plain",
                        "Stages": "CUTLASS chooses", "CUTLASS": "4.2.1"}.items():
        page.get_by_label(name, exact=True).select_option(value)
    for status, words in ((gemm.FITS, "Fits"), (gemm.REFUSED, "Does not compile")):
        row = spark[spark["status"] == status].iloc[0]
        for name, size in zip("MNK", row["tile"]):
            page.get_by_label(name, exact=True).select_option(str(size))
        assert words in says(page)
        assert (f"{row['headroom']:,} B to spare" if status == gemm.FITS else row["message"]) in says(page)
        assert page.locator(".explorer .bar").is_visible() == (status == gemm.FITS)
    assert not page.said and page.evaluate("document.documentElement.scrollWidth") <= 390


@needs_chromium
def test_a_neighbour_is_one_press_away_and_the_address_carries_the_choice(visit):
    page = visit("#tile?target=sm_121a&operands=NVFP4&runner=dense&output=bf16&ending=plain&from=4.2.1&m=128&n=128&k=128")
    assert "Fits, with 4 stages and 17,408 B to spare" in says(page)
    neighbour = page.locator(".explorer button").last
    tile = neighbour.inner_text()
    neighbour.focus()
    page.keyboard.press("Enter")
    assert "x".join(page.get_by_label(name, exact=True).input_value() for name in "MNK") == tile
    assert page.evaluate("document.activeElement.previousElementSibling.textContent") == "M"
    other = visit("#" + page.url.partition("#")[2], color_scheme="dark")
    assert says(other) == says(page) and other.locator("pre").all_inner_texts() == page.locator("pre").all_inner_texts()


@needs_chromium
def test_an_address_of_a_kernel_that_is_not_there_shows_one_that_is(visit):
    page = visit("#tile?target=sm_999&m=7&n=%3Cb%3E")
    assert says(page) and not page.said


@needs_chromium
def test_without_scripts_the_table_stands_in(browser, address):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(address)
    assert page.locator(".explorer table").is_visible() and page.locator(".explorer tbody tr").count() > 3


def test_what_it_spells_is_the_kernel_and_the_command_asks_for_it(shown):
    """For every row: the C++ type and the Gemm of the command, with the tile put in, are those of the kernel."""
    table = measured.kept()
    for _, row in table.sample(min(len(table), 200), random_state=1).iterrows():
        m, n, k = row["tile"]
        kind, command = (text.replace("{2m}", str(2 * m)).replace("{m}", str(m)).replace("{n}", str(n)).replace("{k}", str(k))
                         .replace("{s}", str(row["fixed_stages"])) for text in explorer.spelled(row))
        kernel = measured.kernel(row)
        assert kind == f"unit::Gemm<{kernel.cpp()}>"
        asked = command.partition("measure([")[2].partition("], ")[0]
        assert eval(asked, {"gemm": gemm}) == kernel and f'front_end("{row["of"]}", "{row["target"]}")' in command


def test_its_bundle_is_small_and_ends_no_script(shown):
    bundle = shown._repr_mimebundle_()
    inside = bundle["text/html"].split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in inside and len(inside) < 500_000 and len(json.loads(inside)["rows"]) == len(measured.kept())
    assert bundle["text/html"].count("</script>") == 2 and bundle[explorers.MIME]["kind"] == "tile"


def test_the_order_of_the_fields_outlives_a_saved_notebook(shown):
    """nbformat sorts the keys of what it saves: so no order may hang on them."""
    saved = json.loads(json.dumps(shown.data, sort_keys=True))
    assert [name for name, _ in saved["picks"]] == [*explorer.PICKS]
