"""What every page of HTML is made with: filled templates, and figures as SVG."""
