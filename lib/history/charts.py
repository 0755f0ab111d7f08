"""The chart of notebook 08: releases across, checks down, what each release is coloured."""

import plotly.graph_objects as go

from lib.doctor import AFFECTED, CANNOT_TELL, FIXED, NOT_AFFECTED
from lib.evidence.figures import COLOURS
from lib.history import verdicts

INKS = {AFFECTED: "vermilion", CANNOT_TELL: "yellow", FIXED: "blue", NOT_AFFECTED: "sky"}
TICKS, ROW, BRICK = 8, 34, 14  # releases between two ticks; px of a row, and of its bricks


def heat(found):
    """Releases (`verdicts.table`) by upload across, checks down, as a heat map (Figure)."""
    releases = found.drop_duplicates("version").sort_values("upload")
    days = (releases["version"] + ", " + releases["uploaded"]).tolist()
    said = found.pivot(index="check", columns="upload", values="verdict")
    said = said.reindex(found["check"].unique())
    codes = {verdict: place for place, verdict in enumerate(INKS)}
    steps = [[edge / len(INKS), COLOURS[ink]] for place, ink in enumerate(INKS.values())
             for edge in (place, place + 1)]
    drawn = go.Figure(go.Heatmap(
        z=said.replace(codes).astype(float), x=days, y=list(range(len(said))), zmin=-0.5,
        zmax=len(INKS) - 0.5, colorscale=steps, showscale=False, xgap=1, ygap=ROW - BRICK,
        text=said, hovertemplate="%{x}: %{text}<extra></extra>"))
    for verdict, ink in INKS.items():
        drawn.add_scatter(x=[None], y=[None], mode="markers", name=verdict.partition(" from")[0],
                          marker=dict(symbol="square", size=11, color=COLOURS[ink]))
    for place, (check, course) in enumerate(verdicts.courses(found).to_numpy()):
        drawn.add_annotation(text=f"{check}: {course}".replace(" from", ""), x=-0.5, y=place - 0.42,
                             xanchor="left", font_size=10, showarrow=False, borderpad=0)
    return drawn.update_layout(
        height=210 + ROW * len(said), margin_l=8, margin_r=8,
        xaxis=dict(tickvals=days[::TICKS], tickangle=-90, tickfont_size=11, showgrid=False),
        yaxis=dict(visible=False, range=[len(said) - 0.5, -0.9]))
