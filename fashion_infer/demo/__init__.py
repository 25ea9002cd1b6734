"""What `fashion-infer demo` shows: the built-in model on pictures, or with --train the whole chain."""
