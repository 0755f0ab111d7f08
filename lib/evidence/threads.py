"""Upstream threads, pages and releases, as read on the day of the look-up (threads.toml)."""

import tomllib
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib.evidence import figures

DATA = tomllib.loads(Path(__file__).with_name("threads.toml").read_text())
LOOKED_UP, NEWEST_POST = DATA["looked_up"], DATA["newest_post"]
PAGES = pd.DataFrame(DATA["page"])  # no threads: id, link, date, what
RELEASES = pd.DataFrame(DATA["release"])  # project, version, date, source, seen
MARKS = {"merged": ("blue", "circle"), "open": ("orange", "diamond"),
         "closed, not merged": ("vermilion", "x"), "closed": ("grey", "square")}


def records():
    """The threads (DataFrame: columns of threads.toml, link, and sources with further links)."""
    rows = pd.DataFrame(DATA["thread"]).astype({"id": str})
    path = rows["kind"].map({"issue": "/issues/", "pull request": "/pull/"}) + rows["id"]
    rows["link"] = "https://github.com/" + rows["repo"] + path
    also = rows.pop("also").apply(lambda each: each if isinstance(each, list) else [])
    rows["sources"] = rows["link"].map(lambda link: [link]) + also
    rows = rows.fillna({"dated": "", "merged_by": "", "then": ""}).astype(object)
    return rows.where(rows.notna(), None)


def links():
    """Where each thread and page is, by its id (dict of str to str)."""
    return {row.id: row.link for row in [*records().itertuples(), *PAGES.itertuples()]}


def sizes(threads):
    """Lines that threads add, ``march`` in the form of March 2026 (DataFrame; None: not shown)."""
    counted = pd.DataFrame(DATA["size"]).astype({"id": str})
    rows = threads[["id", "title", "link"]].merge(counted, how="left", on="id")
    rows["source"] = rows["source"].fillna(rows.pop("link"))
    rows.insert(2, "march", rows["added"].where(rows["published"].eq(True)))
    return rows.astype(object).where(rows.notna(), None)


def stood(thread, day):
    """Whether a thread stood on a day as the account says (bool; None if no copy dates it)."""
    if thread.then == "open":
        return thread.opened <= day and not (thread.merged_by and thread.merged_by <= day)
    return thread.merged_by <= day if thread.merged_by else None


def timeline(threads, released):
    """Threads from opening to the newest post seen, by state, above the releases (Figure)."""
    drawn, rows = go.Figure(), threads.sort_values("opened", ascending=False)
    for thread in rows.itertuples():
        name, (colour, symbol) = thread.kind.replace("pull request", "PR"), MARKS[thread.state]
        shown = thread.state not in {each.name for each in drawn.data}
        drawn.add_scatter(x=[thread.opened, thread.newest], y=[f"{name} {thread.id}"] * 2,
                          name=thread.state, legendgroup=thread.state, showlegend=shown,
                          mode="lines+markers", marker_symbol=symbol, marker_size=9,
                          line_color=figures.COLOURS[colour], text=[thread.title] * 2)
    for project, group in released.groupby("project"):
        drawn.add_scatter(x=group["date"], y=[project] * len(group), text=group["version"],
                          mode="markers+text", textposition="top center", showlegend=False,
                          textfont_size=10, marker_symbol="line-ns-open", marker_size=11,
                          marker_color=figures.COLOURS["green"])
    drawn.update_yaxes(tickmode="linear", tickfont_size=11)
    return drawn.update_layout(height=180 + 19 * len(rows), xaxis_title="opened to newest post")
