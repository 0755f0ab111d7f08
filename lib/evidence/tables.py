"""Tables as the notebooks and the site show them: whole text, live links, no empty row numbers."""

import numbers
import re

import pandas as pd

LONGEST = 400  # rows


def figure(value):
    """A value as a reader wants it: yes and no, thousands separated, four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if not isinstance(value, numbers.Real):
        return value
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def html(frame):
    """A DataFrame as HTML: its index only if it says something, at most `LONGEST` rows."""
    named = frame.index.name is not None
    index = not named and not pd.api.types.is_integer_dtype(frame.index)
    rows = (frame.reset_index() if named else frame).head(LONGEST)
    with pd.option_context("display.max_colwidth", None):
        text = rows.map(figure).rename_axis(columns=None).to_html(
            index=index, border=0, render_links=True, na_rep="–")
    text = re.sub(r">https://(?:github\.com/)?([^<]+)</a>", r">\1</a>", text)
    more = len(frame) - len(rows)
    return text + (f"<p>{more:,} more rows are in the finding's values.</p>" if more > 0 else "")
