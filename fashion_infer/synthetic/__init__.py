"""Rendered garments with true labels: `rendering.render` draws one, `dataset.write_dataset` writes a data set."""
