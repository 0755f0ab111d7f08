"""The explorer in a real browser: it picks, adds and says, by keyboard too, on a phone, and its table stands in where no script runs."""

import json

import pytest

from lib.evidence import explorers
from lib.fit import explorer
from lib.subjects import models
from lib.subjects.models import GB
from tests.conftest import needs_chromium

pytestmark = pytest.mark.xdist_group("browser")
MEMORY, SPARE = 124.4 * GB, 2 * GB


@pytest.fixture(scope="module")
def shown():
    return explorer.Explorer(MEMORY, 273e9, 427e12, SPARE, (0.5, 0.8))


def test_every_model_can_be_picked_in_a_format_of_known_size(shown):
    assert [each["id"] for each in shown.data["models"]] == list(models.facts()["models"]) and len(shown.data["models"]) >= 7
    for each in shown.data["models"]:
        assert each["formats"] and all(weights == models.weight_bytes(each["id"], recipe) for recipe, _, weights, _ in each["formats"])
        assert all(len(sizes) == len(shown.data["contexts"]) for sizes in each["cache"].values())
        assert all(label for _, label, _, _ in each["formats"])
    assert not any(recipe.startswith("q4_k") for recipe in explorer.offered("gpt-oss-120b")), "its rows are no multiple of 256 weights"


def test_its_bundle_is_json_and_nothing_in_it_ends_the_script(shown):
    bundle = shown._repr_mimebundle_()
    assert json.loads(json.dumps(bundle[explorers.MIME]))["data"]["memory"] == MEMORY
    inside = bundle["text/html"].split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in inside and json.loads(inside)["spare"] == SPARE
    assert bundle["text/html"].count("</script>") == 2 and "<table" in bundle[explorers.MIME]["table"]


@pytest.fixture
def page(browser, report):
    """The page of notebook 06 on a phone, and what its console said."""
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    opened.said = []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto((report / "report" / "06-does-it-fit.html").as_uri())
    opened.wait_for_selector(".explorer .says")
    yield opened
    opened.close()


@needs_chromium
def test_the_reader_picks_and_sees_fit_and_bound(page):
    pick = {name: page.get_by_label(name, exact=True) for name in ("Model", "Format", "Cache", "Context")}
    says, text = page.locator(".explorer .says"), page.locator(".explorer")
    assert "Fits one Spark" in says.inner_text()
    pick["Format"].select_option("nvfp4-linear")
    assert "Misses one Spark" in says.inner_text() and "2 would carry it" in says.inner_text()
    assert "weights 130.5 GB" in text.inner_text() and "As if it fitted" in text.inner_text()
    pick["Context"].select_option("0")
    assert "40.1 tokens a second" in text.inner_text()
    pick["Model"].select_option("gpt-oss-120b")
    pick["Context"].select_option(label="131,072 tokens")
    assert page.locator("option[disabled]").count() > 0
    before = page.locator(".explorer ul").inner_text()
    pick["Cache"].select_option("fp8")
    assert page.locator(".explorer ul").inner_text() != before
    assert not page.said and page.evaluate("document.documentElement.scrollWidth") <= 390


@needs_chromium
def test_the_keyboard_is_enough(page):
    page.get_by_label("Model", exact=True).focus()
    page.keyboard.type("DeepSeek")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.previousElementSibling.textContent") == "Format"
    page.keyboard.press("End")
    assert "Misses one Spark" in page.locator(".explorer [role=status]").inner_text()


@needs_chromium
def test_without_scripts_the_table_stands_in(browser, report):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((report / "report" / "06-does-it-fit.html").as_uri())
    assert page.locator(".explorer table").is_visible() and page.locator(".explorer tbody tr").count() > 100
