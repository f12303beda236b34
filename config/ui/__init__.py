"""The design system's Python side: number formats, states, chart geometry and the template tags.

`config.templatetags.ui` collects the tags; the markup is in `templates/components/`, the looks in `static/css/`.
"""
