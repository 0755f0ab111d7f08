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
from lib.report import comparison, record, site
from tests.conftest import ROOT, needs_chromium
from tests.evidence.test_findings import RUN, finding, of_schema_1

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]
SAMPLE = ("claim-1b", "claim-5a", "claim-D4")
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
    found = stated()
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
    (folder / "older.json").write_text(json.dumps(older | {"run": RUN | {"name": "h100"}}))
    kept = record.write(folder / "evidence.json", RUN, record.findings(folder / "notebooks/01-small.ipynb"))
    (folder / "site").mkdir()
    site.build(folder, folder / "site", comparison.runs(kept, [folder / "older.json", folder / "spark.json"]))
    return folder / "site"


def serve(folder):
    """A folder behind a local server (its address), and the names of its pages: all notebooks, and some of the claims' alike pages."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = sorted(path.stem for path in folder.glob("*.html"))
        yield f"http://127.0.0.1:{server.server_port}", [name for name in names if not name.startswith("claim-") or name in SAMPLE]
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
    """Open a page and keep what it logged and asked for; checks at the end that nothing went wrong."""
    contexts = []

    def opener(address, width=1280, scheme="light", scripts=True, quiet=True):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts)
        page = context.new_page()
        page.logged, page.asked = [], []
        page.on("console", lambda message: page.logged.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.logged.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address, wait_until="load")
        if scripts:
            page.wait_for_function("[...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)", timeout=20_000)
        contexts.append(context)
        return page

    yield opener
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_drawn_quiet_closed_and_readable(each_site, visit, width, scheme):
    address, names = each_site
    assert "index" in names and len(names) > 2
    for name in names:
        page = visit(f"{address}/{name}.html", width, scheme)
        assert page.logged == [], name
        assert all(url.startswith((address, "data:", "blob:")) for url in page.asked), name
        assert page.evaluate("[...document.querySelectorAll('figure.chart')].every(f => f.dataset.drawn === 'yes' && f.querySelector('svg'))"), name
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), f"{name} scrolls sideways"
        assert page.evaluate(CONTRAST) == [], name
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")


AXE = ROOT / ".axe" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.skipif(not AXE.is_file() and not os.environ.get("CI"), reason="axe-core is not here: npm install --prefix .axe axe-core")
def test_axe_finds_nothing_serious(each_site, browser):
    address, names = each_site
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    for name in names:
        page.goto(f"{address}/{name}.html", wait_until="load")
        page.wait_for_function("[...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)")
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run().then(result => result.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
                              ".map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => n.target).join(' | ')}`))")
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
            if not link.startswith(("https://", "http://")) and not re.fullmatch(r"evidence(-[\w.-]+)?\.json", target):
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
        assert card.locator(".summary").inner_text() == "0 of 6 exceed 101,376 B." and card.locator("pre").is_hidden()
        colours.add(card.evaluate("card => getComputedStyle(card).borderLeftColor"))
    assert len(colours) == 5, "each verdict has a colour of its own"
    card = page.locator('[id="small.1c"]')
    said = card.get_by_role("list", name="Its parts").get_by_role("listitem").all_inner_texts()
    assert [" ".join(each.split()) for each in said] == ["✓ holds: stages are counted compiled", "✗ does not hold: nothing mends it executed", "? not decided: a Spark says so reported"]
    link = card.locator(".sources a")
    assert link.get_attribute("href") == SOURCES[1] and "/blob/0a0a0a0a/cpp" in link.inner_text() and SOURCES[0] in card.locator(".sources").inner_text()


def test_the_board_and_the_claims_show_what_is_measured_and_what_nothing_decided(small):
    soup = BeautifulSoup((small / "index.html").read_text(), "html.parser")
    chips = {" ".join(chip.get_text().split()): chip["class"] for chip in soup.select("a.chip")}
    assert chips["1d untested"] == ["chip", "untested"] and chips["seen measured inspected"] == ["chip", "measured"]
    assert "1 confirmed 1 refuted 1 refined 1 untested of" in " ".join(soup.select_one("p.tally").get_text().split())
    row = soup.select_one("tr#claim-1d")
    assert "untested" in row.get_text() and "nothing decided" in row.get_text()
    assert "recorded by an older form" in soup.get_text() and "ZeroDivisionError" in soup.select_one("div.failure").get_text()


def test_a_claim_has_a_page_with_what_each_machine_says(small):
    soup = BeautifulSoup((small / "claim-1b.html").read_text(), "html.parser")
    beside = {each.strong.get_text(): " ".join(each.get_text().split()) for each in soup.select("ul.apart > li")}
    assert "confirmed sm12x ≠ verdict" in beside["NVIDIA GB10"] and "refuted executed" in beside["h100"] and "≠" not in beside["h100"]


def test_the_first_screen_gives_the_counts_and_no_code(served, visit):
    address, _ = served
    page = visit(f"{address}/index.html")
    tally = page.locator("p.tally").bounding_box()
    assert tally["y"] + tally["height"] < 400 and page.locator("details.code").count() == 0


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


def test_every_finding_has_an_anchor_and_its_id(served, visit, findings):
    address, _ = served
    for notebook in sorted({each["notebook"] for each in findings.values()}):
        page = visit(f"{address}/{notebook}.html")
        for each in findings.values():
            if each["notebook"] == notebook:
                card = page.locator(f'[id="{each["id"]}"]')
                assert card.count() == 1 and each["summary"] in card.inner_text()
                assert card.locator(".parts li").count() == len(each["parts"])
                assert card.locator("button.copy").get_attribute("data-copy") == each["id"]


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
        output("display_data", {evidence.MIME: finding("hostile.one", "1a") | {"summary": HOSTILE, "sources": [HOSTILE, "javascript:alert(1)"], "parts": [
            {"says": HOSTILE, "holds": True, "tier": "executed", "sources": [HOSTILE]}],
                                                                              "values": {"text": f"</pre>{HOSTILE}"}}}),
        output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE])]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {HOSTILE}\n{HOSTILE}\n[link](javascript:window.pwned=7)"),
                                               nbformat.v4.new_code_cell(f"# {HOSTILE}", outputs=outputs)])
    (tmp_path / "run/notebooks").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "run/notebooks/01-hostile.ipynb")
    found = record.findings(tmp_path / "run/notebooks/01-hostile.ipynb")
    kept = record.write(tmp_path / "run/evidence.json", RUN | {"machine": {"name": HOSTILE}, "commit": HOSTILE}, found)
    long = "x" * 3000
    other = {"name": "NVIDIA " + HOSTILE + "javascript:window.pwned=8", "as found": {HOSTILE: HOSTILE, "driver": long}, "cores": [HOSTILE], "gpus": []}
    theirs = [finding(f"theirs.{i}", claim, tier, "refuted") | {
        "summary": HOSTILE + long, "sources": ["javascript:window.pwned=9", f"https://127.0.0.1:9/'\"onmouseover='window.pwned=10'{HOSTILE}"],
        "parts": [{"says": HOSTILE + long, "holds": None, "tier": "reported", "sources": []}], "values": {HOSTILE: [long, 10 ** 400, {"</script>": HOSTILE}]}, "notebook": f"../../{HOSTILE}", "unit": HOSTILE}
        for i, (claim, tier) in enumerate([("1a", "sm12x"), ("1b", "gpu"), ("2h", "gpu"), (None, "compiled")])]
    run = RUN | {"machine": other, "commit": HOSTILE, "versions": {HOSTILE: long}, "toolchain": {"version": HOSTILE, "from": HOSTILE},
                 "failed": {HOSTILE: long}, "missing": {HOSTILE: long}, "started": long, "subjects": [{"name": HOSTILE, "version": [], "sha256": {}}]}
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
    assert "is of schema" in " ".join(each.get_text() for each in notices) and "2 of the files" in " ".join(each.get_text() for each in notices)


def test_a_chart_that_cannot_be_drawn_shows_its_table(hostile, visit):
    page = visit(f"file://{hostile}/01-hostile.html")
    broken = page.locator("figure.chart").nth(1)
    assert broken.get_attribute("data-drawn") == "no"
    assert broken.locator(".undrawn").is_visible() and broken.locator("table").is_visible()


def test_there_is_one_copy_of_plotly_and_a_record_for_programs(report):
    names = sorted(path.name for path in (report / "report").iterdir())
    assert names.count("plotly.min.js") == 1 and not any("newPlot" in path.read_text() for path in (report / "report").glob("*.html"))
    assert json.loads((report / "report/evidence.json").read_text()) == record.read(report / "evidence.json")
