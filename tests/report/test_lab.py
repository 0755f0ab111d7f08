"""The card of a finding in JupyterLab itself: not as plain text, and readable in its light and its dark theme."""

import json
import os
import re
import socket
import subprocess
import sys

import nbformat
import pytest

from lib.report import runner
from tests.conftest import needs_chromium
from tests.report.test_site import CONTRAST, outputs, stated

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("paper, ink, link", [("#ffffff", "#000000", "#0a5cad"), ("#111111", "#ffffff", "#7db8ff")])  # what JupyterLab's themes have
def test_a_card_can_be_read_on_light_and_on_dark_paper(browser, paper, ink, link):
    page = browser.new_page()
    cards = "".join(found.card() for found in stated())
    page.set_content(f"<style>body {{ background: {paper}; color: {ink} }} a {{ color: {link} }}</style><main>{cards}</main>")
    low = [each for each in page.evaluate(CONTRAST) if not re.search(r": [✓✗?]$", each)]
    assert low == [], "text needs 4.5"
    assert all(float(each.split()[0]) >= 3 for each in page.evaluate(CONTRAST)), "a mark needs 3"
    assert page.locator("strong[title='does not hold']").count() == 2
    page.close()


@pytest.fixture
def lab(tmp_path):
    """JupyterLab in its dark theme on an executed notebook that nobody trusted (the address of the notebook)."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("ask()", outputs=outputs(each)) for each in stated()])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks/cards.ipynb")
    settings = tmp_path / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": "JupyterLab Dark"}))
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0", "--ServerApp.token=x",
             f"--notebook-dir={tmp_path / 'notebooks'}"]
    variables = os.environ | runner.environment(tmp_path / "jupyter") | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(words, env=variables, stdout=log, stderr=log)
        yield f"http://127.0.0.1:{port}/doc/tree/cards.ipynb?token=x"
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:  # it asks its kernels first
            server.kill()
            server.wait(20)


def test_jupyterlab_shows_the_card_and_not_its_text(lab, browser):
    page = browser.new_page()
    for _ in range(60):  # until it listens
        try:
            page.goto(lab, wait_until="load")
            break
        except Exception:
            page.wait_for_timeout(500)
    shown = page.locator(".jp-OutputArea-output[data-mime-type='text/html']")
    shown.nth(4).wait_for(timeout=60_000)
    assert [each.split()[0] for each in shown.all_inner_texts()] == ["confirmed", "refuted", "refined", "untested", "measured"]
    assert page.evaluate("document.body.dataset.jpThemeLight") == "false"
    card = shown.nth(2)
    words = ["claim 1c", "0 of 6 exceed 101,376 B.", "✓", "stages are counted", "✗", "nothing mends it", "?", "where to look", "nvidia-cuda-nvcc==13.2.86"]
    places = [card.inner_text().index(each) for each in words]
    assert places == sorted(places) and card.locator("a").get_attribute("href").startswith("https://github.com/NVIDIA/TensorRT-LLM/blob/")
    colours = {each.evaluate("each => getComputedStyle(each).backgroundColor") for each in shown.locator("strong:first-of-type").all()}
    assert len(colours - {"rgba(0, 0, 0, 0)"}) == 5, "the sanitizer of JupyterLab leaves the colours of the verdicts"
    page.close()
