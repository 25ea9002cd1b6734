"""Retrieval: a gallery stores garments with their embeddings and finds those that are most similar to a query."""

from fashion_infer.gallery.adding import AddReport, Outcome
from fashion_infer.gallery.gallery import Gallery
from fashion_infer.gallery.hits import Hit, Hits, search_to_dict
from fashion_infer.gallery.rows import Facts, Row

__all__ = ["AddReport", "Facts", "Gallery", "Hit", "Hits", "Outcome", "Row", "search_to_dict"]
