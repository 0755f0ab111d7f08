"""Explorers: data that the reader picks from, in the site and in JupyterLab, beside a table.

What they share in the browser is explorer.js: fields, the bar, a state that is in the address.
"""

import json
from pathlib import Path

MIME = "application/vnd.sm12x.explorer+json"
SCRIPT = Path(__file__).with_name("explorer.js")


class Explorer:
    """Something that shows itself as an explorer.

    `kind` names it in its script (Path) and in the address, `data` is what JSON holds, and `table`
    (DataFrame), under its `caption`, stands in where no script runs.
    """

    def __init__(self, kind, script, data, table, caption):
        self.kind, self.script, self.data, self.table = kind, script, data, table
        self.caption = caption

    def _repr_mimebundle_(self, **_):
        table = self.table.to_html(index=False, border=0)
        data = json.dumps(self.data, separators=(",", ":"))
        data = data.replace("<", "\\u003c").replace("&", "\\u0026")
        html = (f'<div class="explorer" data-kind="{self.kind}">'
                f'<script type="application/json">{data}</script>'
                f'<details class="all" open><summary>{self.caption}</summary>{table}</details>'
                f"</div><script>{SCRIPT.read_text()}{self.script.read_text()}</script>")
        shown = {"kind": self.kind, "data": self.data, "table": table, "caption": self.caption}
        said = f"an explorer: {self.caption}, {len(self.table)} rows"
        return {MIME: shown, "text/html": html, "text/plain": said}
