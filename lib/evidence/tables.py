"""Tables as the notebooks and the site show them: whole text, links that can be followed, no row numbers that mean nothing."""

import numbers
import re

import pandas as pd
from IPython import get_ipython

LONGEST = 400


def figure(value):
    """A number as a reader wants it: thousands separated, at most four significant digits after the point; yes and no for booleans."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if isinstance(value, numbers.Real):
        return "–" if pd.isna(value) else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    return value


def html(frame):
    """A DataFrame as HTML: `figure` for its cells, its index only if it says something, at most `LONGEST` rows."""
    named = frame.index.name is not None
    shown = (frame.reset_index() if named else frame).head(LONGEST).map(figure).rename_axis(columns=None)
    index = not named and not pd.api.types.is_integer_dtype(frame.index)
    with pd.option_context("display.max_colwidth", None):
        text = shown.to_html(index=index, border=0, render_links=True, na_rep="–")
    text = re.sub(r">https://(?:github\.com/)?([^<]+)</a>", r">\1</a>", text)
    more = len(frame) - len(shown)
    return text + (f"<p>{more:,} more rows are in the finding's values.</p>" if more > 0 else "")


def install():
    """Have the notebook that runs this show every DataFrame through `html`; outside a notebook, nothing."""
    if shell := get_ipython():
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, html)
