"""DeepFashion's files: readers, a check of a download, and a rendered set in the same layout."""
