"""The site: executed notebooks through nbconvert with the templates of lib/templates, and an index with the scoreboard."""

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
from lib.report import machines, record, scoreboard

COLLECTION = "Five bugs on SM12x"
TEMPLATES = Path(__file__).with_name("templates")
SCOREBOARD = "08-scoreboard"
TAGS = nh3.ALLOWED_TAGS | {"section", "figure", "figcaption", "details", "summary"}
ATTRIBUTES = {tag: nh3.ALLOWED_ATTRIBUTES.get(tag, set()) | {"class", "id"} for tag in TAGS}
ATTRIBUTES["th"] |= {"scope", "colspan", "rowspan"}
ATTRIBUTES["td"] |= {"colspan", "rowspan"}


@dataclass
class Page:
    """A page of the site: the notebook's name, its title, its number, and what failed in it (or nothing)."""

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
        text = next((cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"), "")
        prose = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return re.sub(r"[*_`]|\]\([^)]*\)|\[", "", prose[0]) if prose else self.title


def sanitized(html):
    """Keep the structure of a piece of HTML, and nothing that could run, load or lay itself over the page."""
    return Markup(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, link_rel="noopener", url_schemes={"https", "mailto"}))


def table_html(html):
    """Sanitised HTML in a box that scrolls by itself, so that the page never does."""
    return Markup('<div class="scroll" tabindex="0" role="region" aria-label="Table">{}</div>').format(sanitized(html))


def script_json(value):
    """JSON for the inside of a script element, out of which nothing in it can break."""
    return Markup(json.dumps(value).replace("<", "\\u003c").replace("&", "\\u0026"))


class Exporter(HTMLExporter):
    """nbconvert's HTML exporter with the collection's template and filters; one object makes one page."""

    def __init__(self):
        self.macros = scoreboard.TEMPLATES.get_template("macros.html.j2").module
        self.numbers = itertools.count(1)
        shown = [evidence.MIME, PLOTLY, explorer.MIME, "text/html", "image/svg+xml", "image/png", "text/markdown", "text/plain"]
        super().__init__(template_name="collection", extra_template_basedirs=[str(TEMPLATES)],
                         config=Config({"NbConvertBase": {"display_data_priority": shown}}),
                         filters={"sanitized": sanitized, "table_html": table_html, "rich": self.rich, "code_label": self.code_label})

    def rich(self, data):
        """The card of a finding with its anchor; or the place of a chart or explorer, its data for the page's own script, and its table."""
        if finding := data.get(evidence.MIME):
            return self.macros.card(finding, claims.ledger().get(finding["claim"]))
        if picker := data.get(explorer.MIME):
            return self.macros.explorer(script_json(picker["data"]), table_html(picker["table"]))
        drawing = data[PLOTLY]
        alt = (drawing.get("layout", {}).get("meta") or {}).get("alt") or "a chart"
        return self.macros.chart(f"chart-{next(self.numbers)}", alt, script_json(drawing), table_html(data.get("text/html", "")))

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
    notebook.cells = [cell for cell in notebook.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), path.stem)
    return Page(path.stem, first.strip().splitlines()[0].lstrip("# "), notebook, failed)


def linked(body, pages):
    """Lead links to notebooks of this run to their pages."""
    for page in pages:
        body = body.replace(f'href="{page.name}.ipynb', f'href="{page.file}.html')
    return body


def contents(body):
    """The headings of a page (list of level, id and text), from its HTML."""
    soup = BeautifulSoup(body, "html.parser")
    headings = [(int(tag.name[1]), tag["id"], tag.get_text().rstrip("¶")) for tag in soup.find_all(["h2", "h3"]) if tag.get("id")]
    return headings


def build(run, target, others=(), refused=()):
    """Make the site of a run.

    Parameters
    ----------
    run : Path
        A folder with ``notebooks/`` (executed) and ``evidence.json``.
    target : Path
        An empty folder for the site.
    others : list of machines.Machine
        Those that are shown beside this one; each gets a page.
    refused : list of (str, str)
        Evidence that is not shown, with the reason.

    Returns
    -------
    Path
        Its ``index.html``.
    """
    evidence_of_run = json.loads((run / "evidence.json").read_text())
    findings = evidence_of_run["findings"]
    pages = [read_page(path) for path in sorted((run / "notebooks").glob("*.ipynb"))]
    mine = machines.here(evidence_of_run)
    index = {"failures": [page for page in pages if page.failed], "refused": refused, "missing": mine.run.get("missing")}

    def write(name, title, description, body, **more):
        shell = scoreboard.TEMPLATES.get_template("page.html.j2")
        html = shell.render(name=name, title=title, description=description, body=Markup(linked(body, pages)), collection=COLLECTION,
                            pages=pages, others=others, run=mine.run, toc=contents(body), charts='class="plot"' in body,
                            explorer='class="explorer"' in body, **more)
        (target / f"{name}.html").write_text(html)

    for before, page, after in zip([None, *pages], pages, [*pages[1:], None]):
        body, _ = Exporter().from_notebook_node(page.notebook)
        write(page.file, page.title, page.description, body, previous=before, next=after, **(index if page.file == "index" else {}))
    if not (target / "index.html").exists():
        parts = {part: table_html(scoreboard.html(part, findings).data) for part in ("tally", "board", "claims")}
        parts |= {name: sanitized(machines.html(part, mine, others, refused).data)
                  for name, part in (("machines", "claims"), ("apart", "apart"), ("elsewhere", "elsewhere"))}
        body = scoreboard.TEMPLATES.get_template("index.html.j2").render(collection=COLLECTION, **parts)
        write("index", COLLECTION, "Claims about TensorRT-LLM on SM120 and SM121, each with a verdict and its evidence.", body, **index)
    for claim, deciding in scoreboard.decided(findings):
        about = [finding for finding in findings if finding["claim"] == claim.id and finding is not deciding]
        beside = [(machine, machine.decided[claim.id], machines.unlike(deciding, machine.decided[claim.id])) for machine in others]
        body = scoreboard.TEMPLATES.get_template("claim.html.j2").render(claim=claim, deciding=deciding, others=about, beside=beside)
        write(f"claim-{claim.id}", f"Claim {claim.id}: {deciding['verdict'] if deciding else 'no finding'}", claim.text, body)
    for machine in others:
        same = {finding["id"]: f"{finding['notebook']}.ipynb#{finding['id']}" for finding in findings
                if finding["values"] == machine.by_id.get(finding["id"], {}).get("values")}
        body = scoreboard.TEMPLATES.get_template("machine.html.j2").render(
            machine=machine, found=machines.compare(mine, machine), links=same, ledger=claims.ledger(),
            tally=scoreboard.tally(machine.findings))
        write(machine.page, machine.label, f"What {machine.device} found, beside this machine.", body)
        (target / f"evidence-{machine.slug}.json").write_text(record.compact({"schema": 1, "run": machine.run, "findings": machine.findings}))
    static(target)
    shutil.copyfile(run / "evidence.json", target / "evidence.json")
    return target / "index.html"


def static(target):
    """Put the style sheet, the scripts and the site's one copy of plotly into a folder."""
    light = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (TEMPLATES / "style.css").read_text()
    (target / "style.css").write_text(f"{style}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
                                      ".highlight { background: transparent; }\n")
    for script in ("site.js", "explorer.js"):
        shutil.copyfile(TEMPLATES / script, target / script)
    shutil.copyfile(TEMPLATES.parent.parent / "docs" / "screenshot.png", target / "preview.png")
    shutil.copyfile(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", target / "plotly.min.js")
