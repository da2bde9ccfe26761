"""Options of the charts of a run, in colors that suit a light and a dark page."""

from typing import Any

__all__ = ["level_options", "loss_options"]

_GREY = "#7b8794"


def loss_options() -> dict[str, Any]:
    """Return the options of losses by step, without data."""
    axis = {"axisLabel": {"color": _GREY}, "axisLine": {"lineStyle": {"color": _GREY}}, "nameTextStyle": {"color": _GREY}}
    split = {"splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.25}}}
    return {
        "animation": False,
        "grid": {"left": 58, "right": 16, "top": 34, "bottom": 36},
        "legend": {"top": 0, "textStyle": {"color": _GREY}, "data": ["training loss", "held-out loss"]},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 22,
            "max": "dataMax",
            **axis,
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "scale": True, **axis, **split},
        "series": [
            {
                "name": "training loss",
                "type": "line",
                "showSymbol": False,
                "data": [],
                "lineStyle": {"width": 1.2},
                "color": _GREY,
            },
            {
                "name": "held-out loss",
                "type": "line",
                "symbolSize": 5,
                "data": [],
                "lineStyle": {"width": 2},
                "color": "#4f86f7",
            },
        ],
    }


def level_options() -> dict[str, Any]:
    """Return the options of losses by noise level, without data."""
    axis = {"axisLabel": {"color": _GREY}, "axisLine": {"lineStyle": {"color": _GREY}}}
    return {
        "animation": False,
        "grid": {"left": 58, "right": 16, "top": 10, "bottom": 40},
        "tooltip": {},
        "xAxis": {
            "type": "category",
            "data": [],
            "name": "noise",
            "nameLocation": "middle",
            "nameGap": 24,
            "nameTextStyle": {"color": _GREY},
            **axis,
        },
        "yAxis": {"type": "value", **axis, "splitLine": {"lineStyle": {"color": _GREY, "opacity": 0.25}}},
        "series": [{"type": "bar", "data": [], "color": "#4f86f7", "barMaxWidth": 34}],
    }
