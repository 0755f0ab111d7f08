"""The workbench's page: apart from the story, with what the tools answered, and without forms that nothing is behind."""

import nbformat
import pytest
from bs4 import BeautifulSoup

from lib.report import comparison, record, site
from lib.workbench import fits, widget
from tests.evidence.test_findings import RUN

STORY = ("01-small", "10-scoreboard")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of a small run with a workbench (dict of name to BeautifulSoup)."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "notebooks").mkdir()
    (folder / "site").mkdir()
    prose, cell, output = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell, nbformat.v4.new_output
    answer, form = fits("gpt-oss-20b", "bf16", context=1), widget(fits)._repr_mimebundle_()
    shown = [output("display_data", {"text/html": f"<p>{answer}</p>"}), output("display_data", answer.shown[0]._repr_mimebundle_())]
    cells = {"11-workbench": [cell("fits()", outputs=shown), cell("widget(fits)", outputs=[output("execute_result", form)])]}
    for name in (*STORY, *site.APART):
        notebook = nbformat.v4.new_notebook(cells=[prose(f"# {name}\nA sentence."), *cells.get(name, [])])
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    kept = record.write(folder / "evidence.json", RUN | {"failed": []}, [])
    site.build(folder, folder / "site", comparison.runs(kept, []))
    return {path.stem: BeautifulSoup(path.read_text(), "html.parser") for path in (folder / "site").glob("*.html")}


def test_what_was_answered_is_shown_and_the_form_is_not(pages):
    main = pages["11-workbench"].main
    assert "gpt-oss-20b in bf16" in main.get_text() and main.select_one("figure.chart")
    assert "interactive(" not in main.get_text() and "widget(fits)" in main.get_text()


def test_it_stands_behind_the_story_and_no_page_of_the_story_turns_to_it(pages):
    links = [link["href"].removesuffix(".html") for link in pages["index"].select("nav.pages a")]
    assert links[:len(STORY)] == list(STORY) and links[len(STORY):][:len(site.APART)] == list(site.APART)
    assert all("apart" in pages["index"].select_one(f"nav.pages a[href='{name}.html']")["class"] for name in site.APART)
    turns = {name: [link["href"] for link in pages[name].select("nav.turn a")] for name in (*STORY, "11-workbench")}
    assert turns == {"01-small": ["index.html", "10-scoreboard.html"], "10-scoreboard": ["01-small.html"], "11-workbench": ["index.html"]}
    assert "Apart from the story, 11-workbench" in pages["index"].main.get_text()
