"""Upstream threads and releases, as recorded on the day of the look-up (threads.toml)."""

import tomllib
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from lib.evidence import figures

DATA = tomllib.loads(Path(__file__).with_name("threads.toml").read_text())
LOOKED_UP, NEWEST_POST = DATA["looked_up"], DATA["newest_post"]
MARKS = {"merged": ("blue", "circle"), "open": ("orange", "diamond"), "closed, not merged": ("vermilion", "x"), "closed": ("grey", "square")}


def table():
    """The threads (DataFrame: id, repo, kind, bug, title, author, opened, newest, state, then, what, link), dates as YYYY-MM-DD or empty.

    ``then`` is the state in March 2026 that the account gives, for the threads that it names.
    """
    rows = pd.DataFrame(DATA["thread"]).fillna("").astype({"id": str})
    path = rows["kind"].map({"issue": "issues", "pull request": "pull"})
    return rows.assign(link="https://github.com/" + rows["repo"] + "/" + path + "/" + rows["id"])


def releases():
    """Releases (DataFrame: project, version, date, source); for TensorRT-LLM the day by which a thread uses one."""
    return pd.DataFrame(DATA["release"])


def timeline(threads, released):
    """Threads as lines from opening to the newest post seen, by bug, above the releases (plotly Figure)."""
    drawn, dated = go.Figure(), threads[threads["opened"] != ""].sort_values("opened", ascending=False)
    for state, (colour, symbol) in MARKS.items():
        some = dated[dated["state"] == state]
        names = some["kind"].str.replace("pull request", "PR") + " " + some["id"]
        x = [point for opened, newest in zip(some["opened"], some["newest"]) for point in (opened, newest, None)]
        y = [point for name in names for point in (name, name, None)]
        drawn.add_scatter(x=x, y=y, mode="lines+markers", name=state, marker_symbol=symbol, marker_size=9,
                          line_color=figures.COLOURS[colour], text=[text for title in some["title"] for text in (title, title, "")],
                          hovertemplate="%{y}: %{text}<br>%{x}<extra></extra>")
    for project, group in released.groupby("project"):
        drawn.add_scatter(x=group["date"], y=[project] * len(group), mode="markers", marker_symbol="line-ns-open", marker_size=12,
                          marker_color=figures.COLOURS["green"], showlegend=False, text=group["version"], hovertemplate="%{y} %{text}<br>%{x}<extra></extra>")
    return drawn.update_layout(height=520, xaxis_title="date (2026), from opening to the newest post seen", yaxis_title=None)
