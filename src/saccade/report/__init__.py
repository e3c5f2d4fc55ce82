"""Console summary, `result.json` and `report.html`."""
