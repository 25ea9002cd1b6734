"""How good a network is: the paper's measures (numbers only) and the judging of a labelled set."""
