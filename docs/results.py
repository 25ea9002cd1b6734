"""What the built-in model gives on rendered garments, as one picture: `python docs/results.py docs/results.jpg`."""

import sys

import cv2
import numpy as np

from fashion_infer import Predictor
from fashion_infer.demo.pictures import MODEL, examples

COLUMNS, ROWS, WIDTH, HEIGHT = 4, 2, 320, 420  # of the sheet, and of each picture in pixels


def main(output: str) -> None:
    """Write the sheet."""
    with Predictor(MODEL) as predictor:
        cells = [cell(example.prediction.plot()) for example in examples(predictor, COLUMNS * ROWS)]
    sheet = np.concatenate([np.concatenate(cells[i : i + COLUMNS], axis=1) for i in range(0, len(cells), COLUMNS)])
    cv2.imwrite(output, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])


def cell(drawn: np.ndarray) -> np.ndarray:
    """A drawn picture fitted into white of WIDTH x HEIGHT, with a gap around it."""
    scale = min((WIDTH - 8) / drawn.shape[1], (HEIGHT - 8) / drawn.shape[0])
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    canvas[top : top + height, left : left + width] = small
    return canvas


if __name__ == "__main__":
    main(sys.argv[1])
