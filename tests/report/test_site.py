"""The site in a real browser: drawn, readable, closed to the outside, and deaf to hostile strings."""

import functools
import http.server
import json
import os
import re
import threading
from dataclasses import asdict

import nbformat
import pandas as pd
import plotly.graph_objects as go
import pytest
from bs4 import BeautifulSoup

from lib import evidence
from lib.evidence import claims
from lib.evidence.figures import PLOTLY, Chart
from lib.evidence.parts import compiled, executed, inspected, modelled, read
from lib.report import commands, comparison, record, runner, scoreboard, site
from tests.conftest import ROOT, needs_chromium
from tests.evidence.test_findings import RUN, finding, of_schema_1

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]
SAMPLE = ("claim-1b", "claim-D4", "finding-fp4-gemm.oversized", "finding-small.1c", "finding-autotuner.skipping", "bug-1", "bug-4",
          "source-lib-bug1_shared_memory-gemm.py")  # of the many that are alike
ALIKE = ("claim-", "finding-", "bug-", "source-")
CONTRAST = """() => {
  const channel = value => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = element => { for (; element; element = element.parentElement) {
    const colour = parse(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.99) return colour; } return [255, 255, 255]; };
  const low = [];
  for (const element of document.querySelectorAll("main *, nav *, footer *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, [hidden]")) continue;
    const a = light(parse(getComputedStyle(element).color)), b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`);
  }
  return low;
}"""


LONG = "flashinfer::trtllm_gen::kernels_128x128x256x1x1_warpspecialized_cooperative"
SOURCES = ["nvidia-cuda-nvcc==13.2.86", f"https://github.com/NVIDIA/TensorRT-LLM/blob/{'0a' * 20}/cpp/{LONG}.cu"]


def stated():
    """A finding of every verdict and one that is measured, with parts of every kind (list of dict)."""
    bug = evidence.open(1, "01-small")
    common = {"beat": "reproduce", "says": "{over} of {n} exceed {budget:,} B.", "values": {"over": 0, "n": 6, "budget": 101376}, "unit": "B"}
    yes, no, open = compiled(True, *SOURCES), executed(False, "flashinfer-python==0.6.6"), modelled(None)
    for claim, parts in {"1a": {"one block has less": yes, f"so it is for {LONG}": inspected(True)}, "1b": {"the tiles do not fit": no},
                         "1c": {"stages are counted": yes, "nothing mends it": no, "a Spark says so": read(None, SOURCES[1])},
                         "1d": {"it fits": open}}.items():
        bug.finding(f"small.{claim}", claim=claim, parts=parts, **common)
    bug.measured("small.seen", by=inspected, sources=SOURCES[:1], parts={"as published": yes}, **common)
    return list(bug.findings.values())


def outputs(shown):
    return [nbformat.v4.new_output("display_data", shown._repr_mimebundle_())]


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The site of a small run (Path) beside an older one and a Spark's: every verdict, a chart, a cell that failed, no notebook executed."""
    folder, cell, prose = tmp_path_factory.mktemp("small"), nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    found, failed = stated(), {"notebook": "01-small", "cell": 11, "error": "ZeroDivisionError: division by zero"}
    table = pd.DataFrame({"target": ["sm_100a", "sm_121a"], "B": [232448, 101376]})
    chart = Chart(go.Figure(go.Bar(x=table["target"], y=table["B"])), table, "What a block may have.")
    notebook = nbformat.v4.new_notebook(cells=[
        prose("# A small notebook\nIt has one of each."), cell('target_arch = "sm_121a"', metadata={"tags": ["parameters"]}),
        prose("## Reproduce"), *[cell("# ask\nask()", outputs=outputs(each)) for each in found], cell("# draw\ndraw()", outputs=outputs(chart)),
        cell("1 / 0", outputs=[nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=["\x1b[31mdivision"])])])
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks/01-small.ipynb")
    spark = [finding("small.1b", "1b", "sm12x", "confirmed") | {"notebook": "01-small", "parts": [{"says": "it ran", "holds": True, "tier": "sm12x", "sources": []}]}]
    record.write(folder / "spark.json", RUN | {"machine": {"name": "NVIDIA GB10"}}, spark)
    older = of_schema_1(*[each | {"values": each["values"] | {"gone": LONG}} for each in map(asdict, found)])
    (folder / "older.json").write_text(json.dumps(older | {"run": older["run"] | {"name": "h100"}}))
    kept = record.write(folder / "evidence.json", RUN | {"failed": [failed]}, map(asdict, found))
    (folder / "site").mkdir()
    site.build(folder, folder / "site", comparison.runs(kept, [folder / "older.json", folder / "spark.json"]))
    return folder / "site"


def serve(folder):
    """A folder behind a local server (its address), and the names of its pages: all that differ, and some of those that are alike."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = sorted(path.stem for path in folder.glob("*.html"))
        yield f"http://127.0.0.1:{server.server_port}", [name for name in names if not name.startswith(ALIKE) or name in SAMPLE]
        server.shutdown()


@pytest.fixture(scope="session")
def served(report):
    yield from serve(report / "report")


@pytest.fixture(scope="session", params=["small", "report"])
def each_site(request):
    """A small run's site that has one of each, and the whole report."""
    folder = request.getfixturevalue(request.param)
    yield from serve(folder / "report" if request.param == "report" else folder)


@pytest.fixture
def visit(browser):
    """Open a page and keep what it logged and asked for; pages of a test that are opened alike share what Chromium read."""
    contexts = {}

    def opener(address, width=1280, scheme="light", scripts=True, height=900):
        alike = width, height, scheme, scripts
        if alike not in contexts:
            contexts[alike] = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts)
        page = contexts[alike].new_page()
        page.logged, page.asked = [], []
        page.on("console", lambda message: page.logged.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.logged.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address, wait_until="load")
        if scripts:
            page.wait_for_function("[...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)", timeout=20_000)
        return page

    yield opener
    for context in contexts.values():
        context.close()


FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.mark.parametrize("widths, scheme", [([1440, 1024], "light"), ([390], "dark")])
def test_every_page_is_drawn_quiet_closed_and_readable(each_site, visit, widths, scheme):
    address, names = each_site
    assert "index" in names and len(names) > 8
    for name in names:
        page = visit(f"{address}/{name}.html", widths[0], scheme)
        assert all(url.startswith((address, "data:", "blob:")) for url in page.asked), name
        assert page.evaluate("[...document.querySelectorAll('figure.chart')].every(f => f.dataset.drawn === 'yes' && f.querySelector('svg'))"), name
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            assert any(page.evaluate(FITS) or page.wait_for_timeout(100) for _ in range(50)), f"{name} scrolls sideways at {width}"  # charts follow
            assert page.evaluate(CONTRAST) == [], name
        assert page.logged == [], name
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")
        labels = page.locator("main [role=region]").evaluate_all("found => found.map(each => each.ariaLabel)")
        assert len(labels) == len(set(labels)), f"{name}: a table is named twice"
        page.close()


AXE = ROOT / ".axe" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.skipif(not AXE.is_file() and not os.environ.get("CI"), reason="axe-core is not here: npm install --prefix .axe axe-core")
def test_axe_finds_nothing(each_site, browser):
    address, names = each_site
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    for name in names:
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_function("[...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)")
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run().then(result => result.violations.map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => n.target).join(' | ')}`))")
        assert found == [], name
    context.close()


@pytest.mark.parametrize("name", ["small", "report"])
def test_links_inside_the_site_resolve(request, name):
    folder = request.getfixturevalue(name) / ("report" if name == "report" else "")
    soups = {path.name: BeautifulSoup(path.read_text(), "html.parser") for path in folder.glob("*.html")}
    ids = {name: {tag["id"] for tag in soup.find_all(id=True)} for name, soup in soups.items()}
    assert len(soups) > len(claims.ledger())
    for name, soup in soups.items():
        for link in [tag["href"] for tag in soup.find_all("a", href=True)]:
            target, _, anchor = link.partition("#")
            if not link.startswith("https://") and (folder / target).suffix not in (".json", ".gz", ".ipynb"):
                assert target or anchor, f"{name}: an empty link"
                assert (target or name) in ids and (not anchor or anchor in ids[target or name]), f"{name}: {link}"


def test_a_card_shows_verdict_tier_parts_sentence_and_where_to_look(small, visit):
    page = visit(f"file://{small}/01-small.html")
    marks = {"small.1a": ("confirmed", "inspected", "✓✓"), "small.1b": ("refuted", "executed", "✗"), "small.1c": ("refined", "compiled", "✓✗?"),
             "small.1d": ("untested", "nothing decided", "?"), "small.seen": ("measured", "inspected", "✓")}
    colours = set()
    for id, (verdict, tier, ticks) in marks.items():
        card = page.locator(f'[id="{id}"]')
        assert card.locator(".head .verdict").inner_text() == verdict and card.locator(".head .tier").inner_text() == tier
        assert "".join(card.locator(".parts .mark").all_inner_texts()) == ticks
        assert card.locator(".summary").inner_text() == "0 of 6 exceed 101,376 B."
        colours.add(card.evaluate("card => getComputedStyle(card).borderLeftColor"))
    assert len(colours) == 5, "each verdict has a colour of its own"
    card = page.locator('[id="small.1c"]')
    said = card.get_by_role("list", name="Its parts").get_by_role("listitem").all_inner_texts()
    assert [" ".join(each.split()) for each in said] == ["✓ holds: stages are counted compiled", "✗ does not hold: nothing mends it executed", "? not decided: a Spark says so reported"]
    link = card.locator(".sources a")
    assert link.get_attribute("href") == SOURCES[1] and "/blob/0a0a0a0a/cpp" in link.inner_text() and SOURCES[0] in card.locator(".sources").inner_text()


def test_the_board_and_the_claims_show_what_is_measured_and_what_nothing_decided(small):
    board = BeautifulSoup(scoreboard.html("board", json.loads((small / "evidence.json").read_text())["findings"]).data, "html.parser")
    chips = {" ".join(chip.get_text().split()): chip["class"] for chip in board.select("a.chip")}
    assert chips["1d untested"] == ["chip", "untested"] and chips["seen measured inspected"] == ["chip", "measured"]
    soup = BeautifulSoup((small / "index.html").read_text(), "html.parser")
    assert "1 confirmed, 1 refuted, 1 refined, 1 untested." in " ".join(soup.select_one("p.lead").get_text().split())
    row = soup.select_one("tr#claim-1d")
    assert "untested" in row.get_text() and "nothing decided" in row.get_text()
    assert "ZeroDivisionError" in soup.select_one("div.failure").get_text()
    assert "recorded by an older form" in (small / "machine-h100.html").read_text()


def test_a_claim_has_a_page_with_what_each_machine_says(small):
    soup = BeautifulSoup((small / "claim-1b.html").read_text(), "html.parser")
    beside = {each.strong.get_text(): " ".join(each.get_text().split()) for each in soup.select("ul.apart > li")}
    assert "confirmed sm12x ≠ verdict" in beside["NVIDIA GB10"] and "refuted executed" in beside["h100"] and "≠" not in beside["h100"]


SIZES = [(1440, 900, "light"), (1440, 900, "dark"), (1024, 768, "light"), (1024, 768, "dark"), (390, 844, "light"), (390, 844, "dark")]


@pytest.mark.parametrize("width, height, scheme", SIZES)
def test_the_first_screen_says_what_it_is_what_held_and_what_to_run_and_has_a_figure(served, visit, width, height, scheme):
    address, _ = served
    page = visit(f"{address}/index.html", width, scheme, height=height)
    for place in ("h1", ".lead", ".answers", "figure.sizes", ".own"):
        box = page.locator(place).first.bounding_box()
        assert box["y"] + box["height"] <= height, f"{place} ends at {box['y'] + box['height']}"
    assert page.locator(".answers li").count() == 6 and page.locator(".own code").inner_text() == "make doctor"
    assert page.locator("details.code").count() == 0
    over = page.evaluate("[...document.querySelectorAll('table, .bar, section.do')].filter(each => each.getBoundingClientRect().right > innerWidth).length")
    assert over == 0, "a table that a reader needs is cut"


def test_on_a_phone_the_table_of_a_finding_is_read_without_scrolling(served, visit):
    address, _ = served
    page = visit(f"{address}/finding-fp4-gemm.oversized.html", width=390, height=844)
    cell = page.locator("td", has_text="102,400").first
    box = cell.bounding_box()
    assert cell.get_attribute("data-label") == "needs (B)" and 0 <= box["x"] and box["x"] + box["width"] <= 390


def test_the_front_page_is_short(report):
    soup = BeautifulSoup((report / "report/index.html").read_text(), "html.parser").main
    above = [text for text in soup.find_all(string=True) if text.find_parent(id="claims") is None and soup.find(id="claims") in text.find_all_next("h2")]
    assert len(" ".join(above).split()) <= 900
    advice = soup.select("section.do")
    assert len(advice) == 6 and all(each.select("dd a[href^=finding-]") for each in advice)
    assert all(each.select("a[href^=https]") for each in advice[:5])


def test_advice_that_rests_on_another_verdict_says_so():
    bug, advice = scoreboard.SAID["bug"][0], scoreboard.template("advice").module
    held = {"1b": finding(claim="1b", verdict="refuted"), "1h": finding("a.c", "1h", verdict="refined")}
    assert "was written when" not in advice.evidence(bug, held)
    assert "was written when this was refuted" in advice.evidence(bug, held | {"1b": finding(claim="1b", verdict="confirmed")})
    assert "1h has no finding" in advice.evidence(bug, held | {"1h": None})


@pytest.mark.parametrize("bug", scoreboard.SAID["bug"], ids=lambda bug: bug["name"])
def test_the_line_of_a_bug_follows_the_verdict_and_the_values(bug, findings):
    decided = claims.decide(list(findings.values()))[bug["claim"]]
    said = scoreboard.line(bug, decided)
    assert said != decided["summary"], "this run's verdict has no words in bugs.toml, or they name a value that is gone"
    other = next(verdict for verdict in evidence.findings.VERDICTS if verdict != decided["verdict"] and verdict in bug["line"])
    assert scoreboard.line(bug, decided | {"verdict": other}) != said
    assert scoreboard.line(bug, decided | {"verdict": "untested"}) == decided["summary"]


def test_from_the_front_page_to_the_code_behind_102_400_bytes_are_three_clicks(served, visit):
    address, _ = served
    page = visit(f"{address}/index.html")
    page.locator("a.bar.over", has_text="102,400 B").first.click()
    page.wait_for_url("**/finding-fp4-gemm.oversized.html")
    assert "102,400" in page.locator("main table").first.inner_text() and "bug.measured(" in page.locator("pre.code").first.inner_text()
    assert re.search(r"Cell \d+ of notebooks/01-shared-memory.ipynb, line \d+, commit", page.locator("main").inner_text())
    page.get_by_role("link", name="gemm.measure", exact=True).click()
    assert page.locator(":target").inner_text().split()[:2] == ["def", "measure(gemms,"]
    page.get_by_role("link", name="gemm.cuh").click()
    assert "sizeof(typename" in page.locator(".listing").inner_text()


@pytest.mark.parametrize("asked, found", [("102,400", "finding-fp4-gemm.oversized.html"), ("tcgen05", "finding-attention.instruction-sets.html"), ("claim 1b", "claim-1b.html"),
                                          ("kernels that exist", "03-moe-gate.html#The-kernels-that-exist"), ("epilogue", "glossary.html")])
def test_the_search_finds_findings_headings_and_terms_from_a_folder(report, visit, asked, found):
    page = visit(f"file://{report / 'report' / 'about.html'}", width=390)
    page.get_by_role("searchbox").fill(asked)
    page.locator("#hits a").first.wait_for()
    assert found in [hit.get_attribute("href") for hit in page.locator("#hits a").all()]
    page.get_by_role("searchbox").fill("zzzzqq")
    page.locator("#hits", has_text="Nothing found.").wait_for()
    assert page.logged == [] and all(url.startswith("file:") for url in page.asked)


def test_a_term_is_explained_on_hover_focus_and_tap(served, visit):
    address, _ = served
    page = visit(f"{address}/01-shared-memory.html", width=390)
    term, tip = page.locator("dfn", has_text="GEMM").first, page.get_by_role("tooltip")
    for act in (term.hover, term.focus, term.click):
        page.locator("h1").click()
        page.mouse.move(0, 0)
        act()
        assert tip.inner_text() == scoreboard.TERMS["GEMM"]
        box = tip.bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390
        page.keyboard.press("Escape")
        assert tip.is_hidden()
    marked = page.locator("dfn").all_inner_texts()
    assert len(marked) == len(set(marked)), "each term once"


def test_the_explorers_choice_is_in_the_address(served, visit):
    address, _ = served
    page = visit(f"{address}/06-does-it-fit.html")
    page.get_by_label("Context", exact=True).select_option(label="8,192 tokens")
    chosen, said = page.url, page.locator(".explorer .says").inner_text()
    assert "#fit?model=" in chosen
    other = visit(chosen)
    assert other.get_by_label("Context", exact=True).evaluate("each => each.selectedOptions[0].text") == "8,192 tokens"
    assert other.locator(".explorer .says").inner_text() == said and other.locator(".explorer").evaluate("each => each.getBoundingClientRect().top < innerHeight")


def test_a_long_table_is_narrowed_by_words_that_stand_in_the_address(served, visit, findings):
    address, _ = served
    kernels = findings["fp4-gemm.oversized"]["values"]["kernels"]
    wanted = [row for row in kernels if row["name"] == "128x256x64B" and row["d"] == "bf16"]
    page = visit(f"{address}/finding-fp4-gemm.oversized.html")
    field = page.get_by_label("Rows of kernels with these words")
    field.fill("128x256x64B bf16")
    assert 0 < len(wanted) < len(kernels) and page.locator("#kernels ~ .scroll tbody").first.locator("tr:visible").count() == len(wanted)
    assert page.url.endswith("#kernels?128x256x64B+bf16")
    other = visit(page.url)
    assert other.get_by_text(f"{len(wanted)} of {len(kernels)} rows").is_visible() and other.get_by_label("Rows of kernels with these words").input_value() == "128x256x64B bf16"


@pytest.mark.parametrize("name", ["01-shared-memory", "05-attention-kernels"])
def test_on_a_phone_the_title_comes_first_and_a_verdict_within_two_screens(served, visit, name):
    address, _ = served
    page = visit(f"{address}/{name}.html", width=390, height=844)
    assert page.locator("h1").bounding_box()["y"] < 120
    assert page.locator("main .verdict").first.bounding_box()["y"] < 2 * 844
    assert page.locator("section.prose :is(article, details.code)").count() == 0, "prose ends where it ends"
    details = page.locator("details.toc")
    assert details.is_visible() and not page.locator("nav.toc").is_visible() and not details.locator("ol").is_visible()


def test_the_section_in_view_is_marked_in_the_contents(served, visit):
    address, _ = served
    page = visit(f"{address}/01-shared-memory.html#Diagnose", width=1440)
    assert page.locator("h2#Diagnose").evaluate("each => Math.abs(each.getBoundingClientRect().top) < innerHeight"), "a link to a section leads there"
    page.locator("nav.toc [aria-current]", has_text="Diagnose").wait_for()
    assert page.locator("nav.pages [aria-current]").inner_text() == "01 shared memory"


def test_charts_are_read_on_dark_paper_and_print_small(served, visit):
    address, _ = served
    page = visit(f"{address}/01-shared-memory.html", scheme="dark")
    fills = page.evaluate("[...document.querySelectorAll('.plot .annotation text')].map(each => getComputedStyle(each).fill)")
    papers = page.evaluate("[...document.querySelectorAll('.plot .annotation rect.bg')].map(each => getComputedStyle(each).fill)")
    assert fills and set(fills) == {"rgb(227, 232, 238)"} and "rgb(255, 255, 255)" not in papers
    assert len(page.pdf(format="A4")) < 2e6


@pytest.mark.parametrize("name", ["index", "01-shared-memory", "10-scoreboard", "bug-3", "finding-fp4-gemm.oversized"])
def test_nothing_is_cut_on_paper(served, visit, name):
    address, _ = served
    page = visit(f"{address}/{name}.html", width=690)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    cut = page.evaluate("[...document.querySelectorAll('main *')].filter(each => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 2).length")
    assert cut == 0


def test_what_other_machines_measured_on_their_gpu_stands_in_its_place_and_is_called_recorded(report, findings):
    kept = json.loads((ROOT / "outputs/recorded/h100/evidence.json").read_text())["findings"]
    for notebook in ("02-kv-cache", "04-autotuner"):
        theirs = [each for each in kept if each["notebook"] == notebook and each["tier"] == "gpu" and each["id"] not in findings]
        html = BeautifulSoup((report / "report" / f"{notebook}.html").read_text(), "html.parser")
        heads = [each.get_text() for each in html.find_all("h2")]
        for each in theirs:
            block = html.find(id=each["id"]).find_parent("section", class_="recorded")
            assert "Recorded on another machine, NVIDIA H100" in block.get_text() and each["summary"] in block.get_text() and block.find("table")
            assert block.find_previous("h2").get_text() == heads[heads.index("On a GPU")]


def test_numbers_stand_right_under_their_head(served, visit):
    address, _ = served
    page = visit(f"{address}/01-shared-memory.html")
    head = page.locator("th", has_text="needs (B)").first
    assert head.evaluate("each => getComputedStyle(each).textAlign") == "right"


def test_the_scoreboard_shows_all_beats_at_1440(served, visit):
    address, _ = served
    page = visit(f"{address}/10-scoreboard.html", width=1440)
    box = page.locator("table.board th", has_text="verify").bounding_box()
    assert box["x"] + box["width"] <= 1440 - 20


def test_what_changed_is_told_by_claim_with_the_reason(report, findings):
    kept = json.loads(site.PUBLISHED.read_text())
    decided = claims.decide(list(findings.values()))
    changed = {claim for claim, verdict in kept["verdicts"].items() if decided[claim] and decided[claim]["verdict"] != verdict}
    page = BeautifulSoup((report / "report/changes.html").read_text(), "html.parser")
    listed = page.find(id="other").find_next("ul")
    assert {each["href"] for each in listed.select("p.claim a")} == {f"claim-{claim}.html" for claim in changed}
    assert changed <= kept["why"].keys() and all(kept["why"][claim] in listed.get_text() for claim in changed), "docs/verdicts.json lacks a reason"
    now = json.loads((report / "report/verdicts.json").read_text())
    assert now["verdicts"] == {claim: each["verdict"] for claim, each in decided.items() if each}


def test_what_failed_is_told_as_the_run_says_it(tmp_path):
    failed = [{"notebook": "03-moe-gate", "cell": 7, "error": "KeyError: 'x'"}]
    assert "03-moe-gate, cell 7: KeyError" in scoreboard.template("macros").module.failures(failed)
    assert "03-moe-gate: cell 7" in scoreboard.template("macros").module.failures({"03-moe-gate": "cell 7"})


def test_folded_code_opens_and_keys_reach_it(served, visit):
    address, _ = served
    page = visit(f"{address}/04-autotuner.html")
    code = page.locator("details.code").nth(2)
    assert not code.locator(".highlight").is_visible()
    code.locator("summary").focus()
    page.keyboard.press("Enter")
    assert code.locator(".highlight").is_visible()
    page.keyboard.press("Home")
    page.locator("a.skip").focus()
    assert page.locator("a.skip").bounding_box()["x"] >= 0


def test_every_finding_has_an_anchor_a_page_and_a_link_to_copy(report, findings):
    pages = {name: BeautifulSoup((report / f"report/{name}.html").read_text(), "html.parser") for name in {each["notebook"] for each in findings.values()}}
    for id, each in findings.items():
        card, = pages[each["notebook"]].find_all(id=id)
        assert " ".join(each["summary"].split()) in " ".join(card.get_text().split())
        assert len(card.select(".parts li")) == len(each["parts"])
        assert card.select_one("button.copy")["data-copy"] == f"finding-{id}.html"
        assert (report / "report" / f"finding-{id}.html").is_file()


def test_without_scripts_the_tables_stand_in_for_the_charts(served, visit):
    address, _ = served
    page = visit(f"{address}/00-machine.html", scripts=False)
    assert page.locator("figure.chart table").first.is_visible() and page.locator("h1").is_visible()
    assert "101,376" in page.locator("figure.chart table").first.inner_text()


def test_the_report_opens_from_a_folder(report, visit):
    page = visit(f"file://{report / 'report' / '00-machine.html'}")
    assert page.logged == []


HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'><svg onload='window.pwned = 3'></svg>"


@pytest.fixture
def hostile(tmp_path):
    """A site made of outputs that try to run scripts, load from outside, and stretch the page."""
    output = nbformat.v4.new_output
    figure = {"data": [{"type": "bar", "x": [f"</script>{HOSTILE}"], "y": [1]}], "layout": {"meta": {"alt": HOSTILE}, "title": {"text": HOSTILE}}}
    outputs = [
        output("stream", name="stdout", text=HOSTILE + "\x1b[31mred\x1b[0m" + "x" * 5000),
        output("display_data", {"text/html": f"{HOSTILE}<table><tr><td>kept</td></tr></table><a href='javascript:window.pwned=4'>a</a>"
                                             "<iframe src='http://127.0.0.1:9/'></iframe><div style='position:fixed;inset:0'>over</div>"}),
        output("display_data", {"text/plain": HOSTILE}), output("display_data", {"text/markdown": HOSTILE}),
        output("display_data", {"application/javascript": "window.pwned = 5"}),
        output("display_data", {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'><script>window.pwned=6</script></svg>"}),
        output("display_data", {PLOTLY: figure, "text/html": f"<table><tr><td>{HOSTILE}</td></tr></table>"}),
        output("display_data", {PLOTLY: {"data": "not a chart"}, "text/html": "<table><tr><td>its table</td></tr></table>"}),
        output("display_data", {evidence.findings.MIME: finding("hostile.one", "1a") | {"summary": HOSTILE, "sources": [HOSTILE, "javascript:alert(1)"], "parts": [
            {"says": HOSTILE, "holds": True, "tier": "executed", "sources": [HOSTILE]}],
                                                                              "values": {"text": f"</pre>{HOSTILE}"}}}),
        output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {HOSTILE}\n{HOSTILE}\n[link](javascript:window.pwned=7)"),
                                               nbformat.v4.new_code_cell(f"# {HOSTILE}", outputs=outputs)])
    (tmp_path / "run/notebooks").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "run/notebooks/01-hostile.ipynb")
    found = commands.stated([runner.Job(tmp_path / "01-hostile.ipynb", tmp_path / "run/notebooks/01-hostile.ipynb")])
    kept = record.write(tmp_path / "run/evidence.json", RUN | {"machine": {"name": HOSTILE}, "commit": HOSTILE}, found)
    long = "x" * 3000
    other = {"name": "NVIDIA " + HOSTILE + "javascript:window.pwned=8", "as found": {HOSTILE: HOSTILE, "driver": long}, "cores": [HOSTILE], "gpus": []}
    theirs = [finding(f"theirs.{i}", claim, tier, "refuted") | {
        "summary": HOSTILE + long, "sources": ["javascript:window.pwned=9", f"https://127.0.0.1:9/'\"onmouseover='window.pwned=10'{HOSTILE}"],
        "parts": [{"says": HOSTILE + long, "holds": None, "tier": "reported", "sources": []}], "values": {HOSTILE: [long, 10 ** 400, {"</script>": HOSTILE}]}, "notebook": f"../../{HOSTILE}", "unit": HOSTILE}
        for i, (claim, tier) in enumerate([("1a", "sm12x"), ("1b", "gpu"), ("2h", "gpu"), (None, "compiled")])]
    run = RUN | {"machine": other, "commit": HOSTILE, "versions": {HOSTILE: long}, "toolchain": {"version": HOSTILE, "from": HOSTILE},
                 "failed": [{"notebook": HOSTILE, "cell": 1, "error": long}], "missing": {HOSTILE: long}, "started": long, "subjects": [{"name": HOSTILE, "version": [], "sha256": {}}]}
    (tmp_path / "theirs.json").write_text(json.dumps({"schema": 2, "run": run, "findings": theirs}))
    (tmp_path / HOSTILE.replace("/", "")).write_text(json.dumps({"schema": HOSTILE}))
    shown = comparison.runs(kept, [tmp_path / "theirs.json", tmp_path / HOSTILE.replace("/", ""), tmp_path / long])
    assert len(shown.others) == 1 and len(shown.refused) == 2
    (tmp_path / "site").mkdir()
    site.build(tmp_path / "run", tmp_path / "site", shown)
    return tmp_path / "site"


def test_hostile_outputs_are_escaped_and_run_nothing(hostile, visit):
    for name in ("index", "claim-1a", "claim-1b", *[path.stem for path in hostile.glob("machine-*.html")], "01-hostile"):
        page = visit(f"file://{hostile / name}.html", width=390)
        page.wait_for_timeout(300)
        assert page.evaluate("window.pwned") is None and page.locator("[onerror], [onmouseover]").count() == 0
        assert name == "01-hostile" or page.locator("img, iframe").count() == 0, name
        assert all(url.startswith(("file:", "data:", "blob:")) for url in page.asked), page.asked
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
    assert page.locator("text=kept").is_visible() and page.locator("iframe").count() == 0
    assert page.locator("[style*=fixed]").count() == 0 and page.locator("a[href^=javascript]").count() == 0


def test_a_hostile_machine_is_shown_as_text(hostile):
    [page] = hostile.glob("machine-*.html")
    assert re.fullmatch(r"machine-[A-Za-z0-9_.-]+", page.stem)
    soup = BeautifulSoup(page.read_text(), "html.parser")
    assert "<script>window.pwned" in soup.h1.get_text() and not soup.select("main script")
    assert not [link for link in soup.find_all("a", href=True) if not re.match(r"https://|#|[\w.-]+$|[\w.-]+#", link["href"])]
    notices = BeautifulSoup((hostile / "index.html").read_text(), "html.parser").select("div.failure")
    assert "is not as the schema says" in " ".join(each.get_text() for each in notices) and "2 of the files" in " ".join(each.get_text() for each in notices)


def test_a_chart_that_cannot_be_drawn_shows_its_table(hostile, visit):
    page = visit(f"file://{hostile}/01-hostile.html")
    broken = page.locator("figure.chart").nth(1)
    assert broken.get_attribute("data-drawn") == "no"
    assert broken.locator(".undrawn").is_visible() and broken.locator("table").is_visible()


def test_there_is_one_copy_of_plotly_and_a_record_for_programs(report):
    names = sorted(path.name for path in (report / "report").iterdir())
    assert sum(path.stat().st_size for path in (report / "report").iterdir()) < 14e6
    assert names.count("plotly.min.js") == 1 and not any("newPlot" in path.read_text() for path in (report / "report").glob("*.html"))
    assert json.loads((report / "report/evidence.json").read_text()) == record.read(report / "evidence.json")
