"""The picture of notebook 09 (evidence.figures.Chart, with its table)."""

import plotly.graph_objects as go

from lib.evidence.figures import COLOURS, Chart
from lib.survey import verdicts

DARK = "#1a1a1a"  # on a light cell, also where the page is dark
# What a cell says, its colour, and that of its word.
SHOWN = {
    verdicts.CODE: ("code", "green", "white"), verdicts.COMPILED: ("driver", "sky", DARK),
    verdicts.OWN: ("own", "blue", "white"), verdicts.PART: ("in part", "yellow", DARK),
    verdicts.NOTHING: ("none", "vermilion", "white"), verdicts.CPU: ("CPU", "orange", DARK),
    verdicts.SOURCE: ("source", "grey", DARK), verdicts.ABSENT: ("–", "grey", DARK),
    verdicts.UNREAD: ("?", "grey", DARK)}
COLUMNS = {"<b>Spark</b><br>SM121<br>aarch64": ("SM121", "aarch64"),
           "SM120<br>aarch64": ("SM120", "aarch64"), "SM121<br>x86_64": ("SM121", "x86_64"),
           "<b>RTX 50</b><br>SM120<br>x86_64": ("SM120", "x86_64")}


def board(table, says):
    """Packages down; GPUs and processors across; a word and a colour for what each comes to."""
    names = [*dict.fromkeys(table["package"])]
    held = table.set_index(["package", "machine"])
    states = [[held.loc[(name, machine), gpu] for gpu, machine in COLUMNS.values()]
              for name in names]
    step, known = 1 / len(SHOWN), [*SHOWN]
    scale = [(edge, COLOURS[colour]) for number, (_, colour, _) in enumerate(SHOWN.values())
             for edge in (number * step, (number + 1) * step)]
    drawing = go.Figure(go.Heatmap(
        x=[*COLUMNS], y=names, z=[[known.index(each) for each in row] for row in states],
        customdata=states, hovertemplate="%{y}: %{customdata}<extra></extra>", showscale=False,
        zmin=-0.5, zmax=len(SHOWN) - 0.5, colorscale=scale, xgap=2, ygap=2))
    words = [dict(x=column, y=name, text=SHOWN[each][0], showarrow=False,
                  font=dict(color=SHOWN[each][2], size=11))
             for name, row in zip(names, states) for column, each in zip(COLUMNS, row)]
    drawing.update_layout(annotations=words, height=90 + 21 * len(names),
                          margin=dict(l=10, r=10, t=70, b=10))
    drawing.update_xaxes(side="top", tickfont_size=11, tickangle=0)
    drawing.update_yaxes(autorange="reversed", tickfont_size=11, ticklabelstandoff=4)
    shown = table[["package", "version", "date", "machine", "SM121", "SM120"]]
    return Chart(drawing, shown, says)
