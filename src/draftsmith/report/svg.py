"""From a matplotlib figure to SVG that lives inside the page: its colours are the page's CSS variables.

Figures are painted in placeholder colours, one per variable of the page, and the placeholders are replaced in the SVG
text. So one drawing serves light, dark and print. Text stays text: it can be searched, copied and read aloud.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from draftsmith.contract.measure import Arm

ARM_SLOTS = 8
WIDE = (12.4, 3.3)  # inches: twice a column and the gap between, so that text has one size in both
# CSS variable -> placeholder. Each must be a colour that matplotlib itself never writes.
PAINT = {
    "ink": "#010101",
    "soft": "#020202",
    "line": "#030303",
    "panel": "#040404",
    "win": "#050505",
    "loss": "#060606",
    "open": "#070707",
    "paper": "#080808",
    **{f"arm{i}": f"#0{i}0a0b" for i in range(ARM_SLOTS)},
}
_ROLE_SLOTS: dict[str, tuple[int, ...]] = {
    "standing": (0, 7),
    "candidate": (1, 5, 6, 7),
    "no_spec": (2,),
    "trainless": (3, 4, 6),
    "other": (7, 6, 5),
}


def arm_slots(arms: Sequence[Arm]) -> dict[str, int]:
    """Arm name -> colour slot: by role first, so that an arm has the same colour in every report."""
    taken: set[int] = set()
    slots: dict[str, int] = {}
    for arm in arms:
        wanted = [*_ROLE_SLOTS[arm.role], *range(ARM_SLOTS)]
        slot = next((i for i in wanted if i not in taken), wanted[0])
        taken.add(slot)
        slots[arm.name] = slot
    return slots


def arm_paint(arms: Sequence[Arm]) -> dict[str, str]:
    """Arm name -> placeholder colour."""
    return {name: PAINT[f"arm{slot}"] for name, slot in arm_slots(arms).items()}


def draw(name: str, description: str, paint: Callable[[Any], None], size: tuple[float, float] = (6.0, 3.3)) -> str:
    """Inline SVG of a figure that `paint` draws on. `name` is unique in the page, `size` in inches.

    The same calls give the same text. `description` is read aloud in place of the picture.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out = io.StringIO()
    with mpl.rc_context(_style(name)), warnings.catch_warnings():
        # A class name in a script that the measuring font lacks: the browser has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), name, description)


def short_name(name: str) -> str:
    """A label that fits beside an axis."""
    return name if len(name) <= 24 else f"{name[:23]}…"


def _style(name: str) -> dict[str, Any]:
    ink, soft, line = PAINT["ink"], PAINT["soft"], PAINT["line"]
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a name may hold a dollar sign
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": ink,
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.labelsize": 9.5,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.titleweight": "semibold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": line,
        "grid.linewidth": 0.7,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": soft,
        "ytick.labelcolor": soft,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.borderaxespad": 0.2,
        "legend.handlelength": 1.6,
        "legend.columnspacing": 1.4,
        "lines.linewidth": 1.8,
        "lines.markersize": 5,
        "figure.constrained_layout.h_pad": 0.05,
        "figure.constrained_layout.w_pad": 0.05,
    }


def _inline(text: str, name: str, description: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for variable, colour in PAINT.items():
        text = text.replace(colour, f"var(--{variable})")
    # Ids must be unique in the whole page.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"\n\s*", "\n", text)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(?:width|height|version|xmlns(?::xlink)?)="[^"]*"', "", head)
    label = escape(description, quote=True)
    return f'{head} role="img" aria-label="{label}" class="plot">{rest}'.strip()
