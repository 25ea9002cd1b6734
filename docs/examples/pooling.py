"""LandmarkPool by hand."""

# --8<-- [start:show]
import numpy as np

from fashion_infer.landmark_pool import landmark_pool

features = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)  # one map of 8 x 8 cells, numbered
landmarks = np.array([[[0.5, 0.5], [0.0, 0.0]]], np.float32)  # the middle, and the upper left corner
pooled = landmark_pool(features, landmarks, gate=np.array([[1.0, 1.0]]), pooled_size=2, bin_size=2)
closed = landmark_pool(features, landmarks, gate=np.array([[0.0, 1.0]]), pooled_size=2, bin_size=2)
# --8<-- [end:show]

assert pooled[0, 0, 0].tolist() == [[27, 29], [43, 45]]
assert pooled[0, 1, 0].tolist() == [[0, 0], [0, 9]]  # cells outside the map count as 0
assert (closed[0, 0] == 0).all()
