"""The site: a front page, the executed notebooks, and a page a bug, claim, finding and machine."""

import gzip
import itertools
import json
import os
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

from lib.atlas import explorer as kernels
from lib.doctor import examine, releases
from lib.evidence import claims, explorers, threads
from lib.evidence.figures import PLOTLY
from lib.evidence.findings import MIME
from lib.fit import explorer as models
from lib.report import origin, record, runner, scoreboard
from lib.report.scoreboard import FOLDER, template
from lib.subjects import patches

COLLECTION = "Five bugs on SM12x"
SCOREBOARD = "10-scoreboard"
APART = ("11-workbench",)  # a place to work, no part of the story
RECORDED = "application/vnd.sm12x.recorded+json"
WIDGET = "application/vnd.jupyter.widget-view+json"  # is nothing without a kernel
PUBLISHED = record.REPOSITORY / "docs" / "verdicts.json"  # of the last published report
TAGS = nh3.ALLOWED_TAGS | {"section", "figure", "figcaption", "details", "summary"}
ATTRIBUTES = {tag: nh3.ALLOWED_ATTRIBUTES.get(tag, set()) | {"class", "id"} for tag in TAGS}
ATTRIBUTES["th"] |= {"scope", "colspan", "rowspan"}
ATTRIBUTES["td"] |= {"colspan", "rowspan"}
SHOWN = [MIME, RECORDED, PLOTLY, explorers.MIME, "text/html", "image/svg+xml",
         "image/png", "text/markdown", "text/plain"]  # of several forms of an output, the first
LONGEST = 2400  # characters of a page that the search knows, no word twice


@dataclass
class Page:
    """The page of an executed notebook; its first sentence describes it."""

    name: str
    title: str
    description: str
    notebook: nbformat.NotebookNode
    failed: str  # the cells that failed, and their errors; or nothing
    committed: Path  # what it was executed from, where it is one of ours
    made: dict  # finding id to origin.Origin

    @property
    def apart(self):
        """Whether it is no part of the story (bool)."""
        return self.name in APART


def read_page(path, run):
    """Read an executed notebook of a run (dict) as a `Page`."""
    notebook = runner.executed(path)
    for cell in notebook.cells:
        runner.cut(cell, runner.SHOWN)
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", ())]
        for data in (output.get("data", {}) for output in cell.get("outputs", [])):
            if MIME in data and record.flaw(data[MIME]):
                del data[MIME]
    failed = "; ".join(f"cell {each['cell']}: {each['error']}".splitlines()[0]
                       for each in run.get("failed", ()) if each["notebook"] == path.stem)
    prose = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines = [line for line in next(prose, "").splitlines() if line.strip()] or [path.stem]
    title = lines[0].lstrip("# ")
    sentence = next((line for line in lines if not line.startswith("#")), title)
    plain, committed = re.sub(r"[*_`]|\]\([^)]*\)|\[", "", sentence), runner.FOLDER / path.name
    return Page(path.stem, title, plain, notebook, failed, committed,
                origin.of(notebook, committed))


def folded(notebook, elsewhere):
    """Put the code cells of a run into one cell, and findings of `elsewhere` (dict of id to
    Machine), what other machines recorded on their GPUs, at the end of the GPU's section."""
    at = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    gpu = [number for number in at if re.match("## .*GPU", notebook.cells[number].source)]
    if elsewhere and gpu:
        end = next((number for number in at if number > gpu[0]), len(notebook.cells))
        outputs = [nbformat.v4.new_output("display_data", {RECORDED: {"id": id}})
                   for id in elsewhere]
        notebook.cells.insert(end, nbformat.v4.new_code_cell(outputs=outputs))
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cells and cells[-1].cell_type == "code":
            cells[-1].source = f"{cells[-1].source}\n\n{cell.source}".strip()
            cells[-1].outputs += [each for each in cell.outputs if each not in cells[-1].outputs]
        elif cell.source.strip() or cell.get("outputs"):
            cells.append(cell)
    notebook.cells = cells


def sanitized(html):
    """The structure of a piece of HTML, without what could run, load or cover the page (Markup)."""
    return Markup(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, link_rel="noopener",
                            url_schemes={"https", "mailto"}))


def table_html(html, count=itertools.count(1)):
    """Sanitised HTML in a box that scrolls by itself, so that the page never does."""
    html = sanitized(html.replace("<th></th>", "<td></td>"))
    heads = ", ".join(re.findall(r"<th[^>]*>([^<]+)</th>", html)[:3]) or "text"
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Table {}: {}">{}</div>'
    return Markup(box).format(next(count), Markup(heads).unescape(), html)


class Exporter(HTMLExporter):
    """nbconvert's HTML exporter with the collection's template; one object makes one page."""

    def __init__(self, elsewhere, **traits):
        self.macros, self.numbers = template("macros").module, itertools.count(1)
        self.elsewhere = elsewhere
        super().__init__(
            template_name="collection", extra_template_basedirs=[str(FOLDER)],
            config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
            filters={"sanitized": sanitized, "table_html": table_html, "rich": self.rich}, **traits)

    def rich(self, data):
        """A finding's card; or the place of a chart or explorer, with its data and its table."""
        if finding := data.get(MIME):
            return self.macros.card(finding, claims.ledger().get(finding["claim"]))
        if kept := data.get(RECORDED):
            machine = self.elsewhere[kept["id"]]
            return self.macros.recorded(machine, machine.by_id[kept["id"]])
        if picker := data.get(explorers.MIME):
            return self.macros.explorer(picker, table_html(picker["table"]))
        drawing, table = data[PLOTLY], table_html(data.get("text/html", ""))
        alt = (drawing.get("layout", {}).get("meta") or {}).get("alt") or "a chart"
        return self.macros.chart(f"chart-{next(self.numbers)}", alt, drawing, table)


def build(run, target, shown):
    """Make the site in `target` (an empty Path) of a run: the folder of its executed
    ``notebooks/`` and ``evidence.json``, and what is shown of it (`comparison.Runs`)."""
    here, documents = shown.here, []
    pages = [read_page(path, here.run) for path in sorted((run / "notebooks").glob("*.ipynb"))]
    made = {id: each for page in reversed(pages) for id, each in page.made.items()}
    common = {
        "collection": COLLECTION, "pages": pages, "here": here, "run": here.run, "shown": shown,
        "others": shown.others, "ledger": claims.ledger(), "decided": here.decided,
        "threads": threads.DATA, "releases": releases.FACTS["release"], "todo": examine.todo,
        "bugs": scoreboard.SAID["bug"], "account": scoreboard.SAID["account"],
        "terms": scoreboard.TERMS, "address": os.environ.get("SM12X_ADDRESS", "").rstrip("/"),
        "repository": os.environ.get("SM12X_REPOSITORY", "")}

    def put(form, name, **more):
        html = template(form).render(**common | more, form=form, name=name)
        # A finding's notebook leads to the finding's page; files of the repository are words.
        html = re.sub(r'href="[\w.-]+\.ipynb#([\w.-]+)"', lambda link: (
            f'href="finding-{link[1]}.html"' if link[1] in here.by_id else link[0]), html)
        for page in pages:
            html = re.sub(rf'(href="{re.escape(page.name)})\.ipynb(?!" download)', r"\1.html", html)
        html = re.sub(r'<a class="anchor-link".*?</a>', "", html)
        html = re.sub(r' href="\.\./([^"#]*)[^"]*"', r' title="\1 in the repository"', html)
        (target / f"{name}.html").write_text(html)
        soup = BeautifulSoup(html, "html.parser")
        title, said = (soup.find(property=og)["content"] for og in ("og:title", "og:description"))
        text = " ".join(dict.fromkeys(soup.main.get_text(" ").split()))[:LONGEST]
        documents.append([f"{name}.html", title, form, said, text])
        documents.extend([f"{name}.html#{head['id']}", head.get_text(), "section", title, ""]
                         for head in soup.select("main h2[id], h3[id]") if form == "notebook")

    for page in pages:
        elsewhere = {id: machine for machine in reversed(shown.others) if not machine.older
                     for id, finding in machine.by_id.items() if id not in here.by_id
                     and (finding["notebook"], finding["tier"]) == (page.name, "gpu")}
        folded(page.notebook, elsewhere)
        export = Exporter(elsewhere, exclude_input=page.name == SCOREBOARD).from_notebook_node
        put("notebook", page.name, own=page, body=Markup(export(page.notebook)[0]))
        if page.committed.is_file():
            shutil.copyfile(page.committed, target / page.committed.name)
    for number, bug in ((bug["number"], bug) for bug in common["bugs"] if bug["number"]):
        names = sorted(path.name for path in patches.FOLDER.glob(f"0{number}-*.diff"))
        put("bug", f"bug-{number}", bug=bug, patches=[patches.Patch(name) for name in names])
    for claim, deciding in scoreboard.decided(here.findings):
        put("claim", f"claim-{claim.id}", claim=claim, deciding=deciding)
    for id, finding in here.by_id.items():
        tables = [table_html(html) for html in made[id].tables] if id in made else []
        put("finding", f"finding-{id}", finding=finding, origin=made.get(id), tables=tables)
    for machine, found in shown.pairs:
        put("machine", machine.page, machine=machine, found=found)
        kept = {"schema": 2, "run": machine.run, "findings": machine.findings}
        packed = gzip.compress(record.compact(kept).encode(), mtime=0)
        (target / f"evidence-{machine.slug}.json.gz").write_bytes(packed)
    for path, names in origin.sources(made.values()).items():
        lines = (record.REPOSITORY / path).read_text().splitlines()
        put("source", f"source-{path.replace('/', '-')}", path=path, lines=lines, mentions=names)
    put("changes", "changes", kept=json.loads(PUBLISHED.read_text()))
    for form in ("index", "about", "glossary"):
        put(form, form)
    (target / "verdicts.json").write_text(template("verdicts.json").render(**common))
    (target / "evidence.json").write_text(record.compact(record.read(run / "evidence.json")))
    static(target, documents)


def static(target, documents):
    """Put style sheet, scripts, what the search knows and the one copy of plotly into a folder."""
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight")
                   for style in ("xcode", "github-dark"))
    (target / "style.css").write_text(
        f"{(FOLDER / 'style.css').read_text()}\n{light}\n@media (prefers-color-scheme: dark) "
        f"{{\n{dark}\n}}\n.highlight {{ background: transparent; }}\n")
    scripts = (explorers.SCRIPT, models.SCRIPT, kernels.SCRIPT)
    (target / "explorer.js").write_text("".join(path.read_text() for path in scripts))
    for name, known in ("terms", scoreboard.TERMS), ("search", documents):
        (target / f"{name}.js").write_text(f"const {name.upper()} = {record.compact(known)};\n")
    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    for path, name in ((FOLDER / "site.js", "site.js"), (library, "plotly.min.js"),
                       (FOLDER / "vendor" / "minisearch.min.js", "minisearch.js"),
                       (record.REPOSITORY / "docs" / "screenshot.png", "preview.png")):
        shutil.copyfile(path, target / name)
