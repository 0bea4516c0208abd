"""Tools for HTML pages: filled templates, and figures as SVG."""
