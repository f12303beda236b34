"""The design system's tags and filters, a builtin of every template. See `docs/components.md`."""

from config.ui import blocks, controls, figures, filters, marks
from config.ui.registry import register

__all__ = ["blocks", "controls", "figures", "filters", "marks", "register"]
