"""A catalogue of photos as Parquet files with their embeddings, on one machine or on a Ray cluster."""
