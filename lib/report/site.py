"""The site: executed notebooks through nbconvert with our templates, and pages beside them.

Beside the notebooks stand an index with the scoreboard, a page a claim, and one a machine.
"""

import itertools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import nh3
import plotly
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

from lib import evidence
from lib.evidence import claims
from lib.evidence.figures import PLOTLY
from lib.fit import explorer
from lib.report import comparison, record, scoreboard

COLLECTION = "Five bugs on SM12x"
TEMPLATES = Path(__file__).with_name("templates")
SCOREBOARD = "08-scoreboard"
TAGS = nh3.ALLOWED_TAGS | {"section", "figure", "figcaption", "details", "summary"}
ATTRIBUTES = {tag: nh3.ALLOWED_ATTRIBUTES.get(tag, set()) | {"class", "id"} for tag in TAGS}
ATTRIBUTES["th"] |= {"scope", "colspan", "rowspan"}
ATTRIBUTES["td"] |= {"colspan", "rowspan"}
SHOWN = [evidence.MIME, PLOTLY, explorer.MIME, "text/html", "image/svg+xml", "image/png",
         "text/markdown", "text/plain"]  # of several forms of an output, the first


def template(name):
    """One of our templates (jinja2.Template), by its name without the endings."""
    return scoreboard.TEMPLATES.get_template(f"{name}.html.j2")


@dataclass
class Page:
    """The page of a notebook: its name and title, and what failed in it (or nothing)."""

    name: str
    title: str
    notebook: nbformat.NotebookNode
    failed: str = ""

    @property
    def file(self):
        """The name of its page: the scoreboard is the index."""
        return "index" if self.name == SCOREBOARD else self.name

    @property
    def short(self):
        """The number of the notebook, as in ``04``."""
        return self.name.partition("-")[0]

    @property
    def description(self):
        """The first sentence of prose, as plain text."""
        prose = [line for line in opening(self.notebook).splitlines()
                 if line.strip() and not line.startswith("#")]
        return re.sub(r"[*_`]|\]\([^)]*\)|\[", "", prose[0]) if prose else self.title


def opening(notebook):
    """The source of the first cell of prose (str)."""
    return next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")


def sanitized(html):
    """The structure of a piece of HTML, without what could run, load or cover the page (Markup)."""
    return Markup(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, link_rel="noopener",
                            url_schemes={"https", "mailto"}))


def table_html(html):
    """Sanitised HTML in a box that scrolls by itself, so that the page never does."""
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Table">{}</div>'
    return Markup(box).format(sanitized(html))


def script_json(value):
    """JSON for the inside of a script element, out of which nothing in it can break."""
    return Markup(json.dumps(value).replace("<", "\\u003c").replace("&", "\\u0026"))


class Exporter(HTMLExporter):
    """nbconvert's HTML exporter with the collection's template; one object makes one page."""

    def __init__(self):
        self.macros = template("macros").module
        self.numbers = itertools.count(1)
        super().__init__(
            template_name="collection", extra_template_basedirs=[str(TEMPLATES)],
            config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
            filters={"sanitized": sanitized, "table_html": table_html, "rich": self.rich,
                     "code_label": self.code_label})

    def rich(self, data):
        """A finding's card; or the place of a chart or explorer, with its data and its table."""
        if finding := data.get(evidence.MIME):
            return self.macros.card(finding, claims.ledger().get(finding["claim"]))
        if picker := data.get(explorer.MIME):
            return self.macros.explorer(script_json(picker["data"]), table_html(picker["table"]))
        drawing, table = data[PLOTLY], table_html(data.get("text/html", ""))
        alt = (drawing.get("layout", {}).get("meta") or {}).get("alt") or "a chart"
        number = f"chart-{next(self.numbers)}"
        return self.macros.chart(number, alt, script_json(drawing), table)

    def code_label(self, cell):
        """What the folded code is called: its first comment, or its number of lines."""
        lines = cell["source"].strip().splitlines()
        if "injected-parameters" in cell.get("metadata", {}).get("tags", []):
            return "parameters of this run"
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return "parameters"
        first = lines[0].lstrip("# ").strip() if lines[0].startswith("#") else ""
        return first or f"code, {len(lines)} line{'s' * (len(lines) != 1)}"


def read_page(path):
    """Read an executed notebook as a `Page`; its failed cell, if any, names itself."""
    notebook = nbformat.read(path, as_version=4)
    failed = ""
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                failed = f"cell {number}: {output.ename}: {output.evalue}".splitlines()[0]
    notebook.cells = [cell for cell in notebook.cells
                      if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    first = (opening(notebook).strip() or path.stem).splitlines()[0]
    return Page(path.stem, first.lstrip("# "), notebook, failed)


def linked(body, pages):
    """Lead links to notebooks of this run to their pages."""
    for page in pages:
        body = body.replace(f'href="{page.name}.ipynb', f'href="{page.file}.html')
    return body


def contents(body):
    """The headings of a page (list of level, id and text), from its HTML."""
    headings = BeautifulSoup(body, "html.parser").find_all(["h2", "h3"])
    return [(int(tag.name[1]), tag["id"], tag.get_text().rstrip("¶"))
            for tag in headings if tag.get("id")]


def index(shown):
    """The body of an index for a run without a scoreboard of its own (str)."""
    findings = shown.here.findings
    parts = {part: table_html(scoreboard.html(part, findings).data)
             for part in ("tally", "board", "claims")}
    parts |= {name: sanitized(comparison.html(part, shown).data)
              for name, part in (("machines", "claims"), ("apart", "apart"),
                                 ("elsewhere", "elsewhere"))}
    return template("index").render(collection=COLLECTION, **parts)


def claim_page(claim, deciding, shown):
    """The body of the page of a claim, with the finding (dict or None) that decides it (str)."""
    others = [each for each in shown.here.findings
              if each["claim"] == claim.id and each is not deciding]
    beside = [(machine, machine.decided[claim.id], found.claims.get(claim.id, ""))
              for machine, found in shown.pairs]
    return template("claim").render(claim=claim, deciding=deciding, others=others, beside=beside)


def machine_page(machine, found, findings):
    """The body of the page of another machine, with its `comparison.Comparison` (str)."""
    same = {each["id"]: f"{each['notebook']}.ipynb#{each['id']}" for each in findings
            if each["values"] == machine.by_id.get(each["id"], {}).get("values")}
    return template("machine").render(machine=machine, found=found, links=same,
                                      ledger=claims.ledger(),
                                      tally=scoreboard.tally(machine.findings))


def build(run, target, shown):
    """Make the site of a run in `target` (an empty Path); its ``index.html`` comes back.

    `run` is a folder with ``notebooks/`` (executed) and ``evidence.json``, and `shown` what that
    holds, with the machines beside it (`comparison.Runs`), each of which gets a page.
    """
    pages = [read_page(path) for path in sorted((run / "notebooks").glob("*.ipynb"))]
    here, shell = shown.here, template("page")
    notices = {"failures": [page for page in pages if page.failed], "refused": shown.refused,
               "missing": here.run.get("missing")}

    def write(name, title, description, body, **more):
        html = shell.render(
            name=name, title=title, description=description, body=Markup(linked(body, pages)),
            collection=COLLECTION, pages=pages, others=shown.others, run=here.run,
            toc=contents(body), charts='class="plot"' in body,
            explorer='class="explorer"' in body, **(notices if name == "index" else {}), **more)
        (target / f"{name}.html").write_text(html)

    for before, page, after in zip([None, *pages], pages, [*pages[1:], None]):
        body, _ = Exporter().from_notebook_node(page.notebook)
        write(page.file, page.title, page.description, body, previous=before, next=after)
    if not (target / "index.html").exists():
        write("index", COLLECTION, "Claims about TensorRT-LLM on SM120 and SM121, each with a "
              "verdict and its evidence.", index(shown))
    for claim, deciding in scoreboard.decided(here.findings):
        verdict = deciding["verdict"] if deciding else "no finding"
        write(f"claim-{claim.id}", f"Claim {claim.id}: {verdict}", claim.text,
              claim_page(claim, deciding, shown))
    for machine, found in shown.pairs:
        write(machine.page, machine.label, f"What {machine.device} found, beside this machine.",
              machine_page(machine, found, here.findings))
        kept = {"schema": 2, "run": machine.run, "findings": machine.findings}
        (target / f"evidence-{machine.slug}.json").write_text(record.compact(kept))
    static(target)
    shutil.copyfile(run / "evidence.json", target / "evidence.json")
    return target / "index.html"


def static(target):
    """Put the style sheet, the scripts and the site's one copy of plotly into a folder."""
    light = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (TEMPLATES / "style.css").read_text()
    (target / "style.css").write_text(
        f"{style}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
        ".highlight { background: transparent; }\n")
    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    for path, name in ((TEMPLATES / "site.js", "site.js"), (library, "plotly.min.js"),
                       (explorer.SCRIPT, "explorer.js"),
                       (record.REPOSITORY / "docs" / "screenshot.png", "preview.png")):
        shutil.copyfile(path, target / name)
