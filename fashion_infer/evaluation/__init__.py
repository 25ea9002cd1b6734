"""Evaluation of networks: the paper's measures, and their use on labelled data sets."""
