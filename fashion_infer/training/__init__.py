"""Training FashionNet; needs the extra `train`."""
