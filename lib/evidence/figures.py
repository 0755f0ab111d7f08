"""Charts that carry their table, for a reader without the drawing, and a sentence that says it."""

import json

import plotly.graph_objects as go

from lib.evidence import tables

PLOTLY = "application/vnd.plotly.v1+json"
# Okabe and Ito's palette, which people with any kind of colour vision can tell apart
# (https://jfly.uni-koeln.de/color/).
COLOURS = {"blue": "#0072B2", "orange": "#E69F00", "green": "#009E73", "vermilion": "#D55E00",
           "sky": "#56B4E9", "purple": "#CC79A7", "yellow": "#F0E442", "grey": "#999999"}
AXIS = dict(gridcolor="rgba(128,128,128,0.25)", zerolinecolor="rgba(128,128,128,0.5)",
            automargin=True, title=dict(standoff=8, font_size=13))
TEMPLATE = go.layout.Template(layout=dict(
    colorway=list(COLOURS.values()),
    font=dict(family="system-ui, sans-serif", size=13, color="#333333"),
    paper_bgcolor="white", plot_bgcolor="white", margin=dict(l=60, r=20, t=40, b=60), height=380,
    legend=dict(orientation="h", yanchor="bottom", y=1.02, x=0), hoverlabel=dict(font_size=13),
    xaxis=AXIS, yaxis=AXIS))


class Chart:
    """A plotly figure, which gets the collection's template, and the table (DataFrame) that it
    draws; `alt`, a sentence that says what it shows, is its caption too."""

    def __init__(self, figure, table, alt):
        self.figure, self.table, self.alt = figure, table, alt
        figure.update_layout(template=TEMPLATE, meta={"alt": alt})

    def _repr_mimebundle_(self, **_):
        drawing = json.loads(self.figure.to_json())
        return {PLOTLY: drawing, "text/html": tables.html(self.table), "text/plain": self.alt}
