"""The site: executed notebooks through nbconvert, an index, a page a claim, and one a machine."""

import itertools
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
from lib.report import comparison, record, runner, scoreboard
from lib.report.scoreboard import FOLDER, template

COLLECTION = "Five bugs on SM12x"
SCOREBOARD = "08-scoreboard"
TAGS = nh3.ALLOWED_TAGS | {"section", "figure", "figcaption", "details", "summary"}
ATTRIBUTES = {tag: nh3.ALLOWED_ATTRIBUTES.get(tag, set()) | {"class", "id"} for tag in TAGS}
ATTRIBUTES["th"] |= {"scope", "colspan", "rowspan"}
ATTRIBUTES["td"] |= {"colspan", "rowspan"}
SHOWN = [evidence.MIME, PLOTLY, explorer.MIME, "text/html", "image/svg+xml", "image/png",
         "text/markdown", "text/plain"]  # of several forms of an output, the first


@dataclass
class Page:
    """The page of an executed notebook; its first sentence describes it."""

    name: str
    file: str  # the scoreboard is the index
    title: str
    description: str
    notebook: nbformat.NotebookNode
    failed: str  # the cell that failed, and its error; or nothing


def read_page(path):
    """Read an executed notebook as a `Page`."""
    notebook, failed = nbformat.read(path, as_version=4), ""
    notebook.cells = [cell for cell in notebook.cells
                      if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate(notebook.cells, 1):
        runner.cut(cell, runner.SHOWN)
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                failed = f"cell {number}: {output.ename}: {output.evalue}".splitlines()[0]
    prose = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines = [line for line in next(prose, "").splitlines() if line.strip()] or [path.stem]
    title = lines[0].lstrip("# ")
    sentence = next((line for line in lines if not line.startswith("#")), title)
    plain = re.sub(r"[*_`]|\]\([^)]*\)|\[", "", sentence)
    file = "index" if path.stem == SCOREBOARD else path.stem
    return Page(path.stem, file, title, plain, notebook, failed)


def sanitized(html):
    """The structure of a piece of HTML, without what could run, load or cover the page (Markup)."""
    return Markup(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, link_rel="noopener",
                            url_schemes={"https", "mailto"}))


def table_html(html):
    """Sanitised HTML in a box that scrolls by itself, so that the page never does."""
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Table">{}</div>'
    return Markup(box).format(sanitized(html))


def code_label(cell):
    """What the folded code of a cell is called: its first comment, or its number of lines."""
    lines, tags = cell["source"].strip().splitlines(), cell.get("metadata", {}).get("tags", [])
    if "parameters" in tags or "injected-parameters" in tags:
        return "parameters" + " of this run" * ("parameters" not in tags)
    comment = lines[0].lstrip("# ").strip() if lines[0].startswith("#") else ""
    return comment or f"code, {len(lines)} line{'s' * (len(lines) != 1)}"


class Exporter(HTMLExporter):
    """nbconvert's HTML exporter with the collection's template; one object makes one page."""

    def __init__(self, **traits):
        self.macros, self.numbers = template("macros").module, itertools.count(1)
        super().__init__(
            template_name="collection", extra_template_basedirs=[str(FOLDER)],
            config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
            filters={"sanitized": sanitized, "table_html": table_html, "rich": self.rich,
                     "code_label": code_label}, **traits)

    def rich(self, data):
        """A finding's card; or the place of a chart or explorer, with its data and its table."""
        if finding := data.get(evidence.MIME):
            return self.macros.card(finding, claims.ledger().get(finding["claim"]))
        if picker := data.get(explorer.MIME):
            return self.macros.explorer(picker["data"], table_html(picker["table"]))
        drawing, table = data[PLOTLY], table_html(data.get("text/html", ""))
        alt = (drawing.get("layout", {}).get("meta") or {}).get("alt") or "a chart"
        return self.macros.chart(f"chart-{next(self.numbers)}", alt, drawing, table)


def index(shown):
    """The body of an index for a run without a scoreboard of its own (str)."""
    own = {part: table_html(scoreboard.html(part, shown.here.findings).data)
           for part in ("tally", "board", "claims")}
    beside = {part: sanitized(comparison.html(part, shown).data)
              for part in ("claims", "apart", "elsewhere")}
    return template("index").render(collection=COLLECTION, own=own, beside=beside)


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
    return template("machine").render(
        machine=machine, found=found, links=same, ledger=claims.ledger(),
        tally=scoreboard.tally(machine.findings))


def build(run, target, shown):
    """Make the site in `target` (an empty Path) of a run: the folder of its executed
    ``notebooks/`` and ``evidence.json``, and what is shown of it (`comparison.Runs`)."""
    pages = [read_page(path) for path in sorted((run / "notebooks").glob("*.ipynb"))]
    here, shell = shown.here, template("page")
    notices = {"failures": [page for page in pages if page.failed], "refused": shown.refused,
               "missing": here.run.get("missing")}

    def write(name, title, description, body, **more):
        for page in pages:  # links to notebooks of this run lead to their pages
            body = body.replace(f'href="{page.name}.ipynb', f'href="{page.file}.html')
        body = re.sub(r' href="\.\./([^"#]*)[^"]*"', r' title="\1 in the repository"', body)
        toc = [(int(tag.name[1]), tag["id"], tag.get_text().rstrip("¶"))
               for tag in BeautifulSoup(body, "html.parser").select("h2[id], h3[id]")]
        html = shell.render(
            name=name, title=title, description=description, body=Markup(body), toc=toc,
            collection=COLLECTION, pages=pages, others=shown.others, run=here.run,
            charts='class="plot"' in body, explorer='class="explorer"' in body,
            **(notices if name == "index" else {}), **more)
        (target / f"{name}.html").write_text(html)

    for before, page, after in zip([None, *pages], pages, [*pages[1:], None]):
        exporter = Exporter(exclude_input=page.file == "index")  # the first page shows no code
        body, _ = exporter.from_notebook_node(page.notebook)
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


def static(target):
    """Put the style sheet, the scripts and the site's one copy of plotly into a folder."""
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight")
                   for style in ("xcode", "github-dark"))
    (target / "style.css").write_text(
        f"{(FOLDER / 'style.css').read_text()}\n{light}\n@media (prefers-color-scheme: dark) "
        f"{{\n{dark}\n}}\n.highlight {{ background: transparent; }}\n")
    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    for path, name in ((FOLDER / "site.js", "site.js"), (library, "plotly.min.js"),
                       (explorer.SCRIPT, "explorer.js"),
                       (record.REPOSITORY / "docs" / "screenshot.png", "preview.png")):
        shutil.copyfile(path, target / name)
