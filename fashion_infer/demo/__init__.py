"""The command `fashion-infer demo`: the built-in model on pictures, or with --train a small model trained at once."""
