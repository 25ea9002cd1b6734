"""Measure how long reading DeepFashion at its full size takes: `python benchmarks/reader.py`.

The script writes the annotation files of the Category and Attribute Prediction benchmark with 289,222 rows and 1,000
attributes (about 0.9 GB of text, no images) to a temporary folder. It reads them twice, each time in a new process:
from the text, and from the binary copy that the first reading left. It prints JSON with seconds and peak memory.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fashion_infer.data.deepfashion import CATEGORY_NAMES

ROWS, ATTRIBUTES, DIFFERENT = 289_222, 1000, 500  # DIFFERENT: number of distinct label rows, repeated over the file
READ = """
import json, sys, time
from pathlib import Path
from fashion_infer.data.deepfashion import read_category

def peak_mib():  # of this process; getrusage would count what its parent held when it was forked
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024

imported, start, cpu = peak_mib(), time.perf_counter(), time.process_time()
data = read_category(Path(sys.argv[1]))
seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
facts = {"rows": len(data), "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1), "peak_mib": peak_mib()}
facts |= {"imports_mib": imported, "attributes_mib": data.attributes.nbytes // 2**20}
print(json.dumps(facts | {"positives": int((data.attributes > 0).sum())}))
"""


def main() -> None:
    """Write the files, read them twice, and print the measurements."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root)
        size = sum(path.stat().st_size for path in root.rglob("*.txt"))
        runs = [
            subprocess.run([sys.executable, "-c", READ, str(root)], capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
    cold, cached = map(json.loads, runs)
    if cold["positives"] != cached["positives"]:
        sys.exit("the copy differs from the text")
    print(json.dumps({"text_mib": size // 2**20, "cold": cold, "cached": cached}, indent=1))


def write(root: Path) -> None:
    """Write the seven annotation files."""
    rng = np.random.default_rng(0)
    anno = root / "Anno"
    names = [f"img/Some_Longer_Name_Of_A_Look/img_{row:08d}.jpg" for row in range(ROWS)]
    labels = rng.choice([-1, 0, 1], (DIFFERENT, ATTRIBUTES), p=[0.95, 0.04, 0.01])
    rows = ["".join(f"{label:3d}" for label in row) for row in labels]
    split = ["train"] * 209_222 + ["val"] * 40_000 + ["test"] * 40_000
    landmarks = "1  " + "  ".join(f"0 {20 * i + 5:03d} {30 * i + 7:03d}" for i in range(6))
    kinds = [1] * 20 + [2] * 16 + [3] * 14
    write_list(anno / "list_category_cloth.txt", [f"{n}  {k}" for n, k in zip(CATEGORY_NAMES, kinds, strict=True)])
    write_list(anno / "list_attr_cloth.txt", [f"attribute {i}  {i % 5 + 1}" for i in range(ATTRIBUTES)])
    write_list(anno / "list_category_img.txt", [f"{name}  {row % 50 + 1}" for row, name in enumerate(names)])
    write_list(anno / "list_attr_img.txt", [f"{name}  {rows[row % DIFFERENT]}" for row, name in enumerate(names)])
    write_list(anno / "list_bbox.txt", [f"{name}  072 079 232 273" for name in names])
    write_list(anno / "list_landmarks.txt", [f"{name}  {landmarks}" for name in names])
    write_list(root / "Eval/list_eval_partition.txt", [f"{n}  {s}" for n, s in zip(names, split, strict=True)])


def write_list(path: Path, rows: list[str]) -> None:
    """Write a list in DeepFashion's format: a count, column names, rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write(f"{len(rows)}\nname  values\n")
        file.writelines(f"{row}\n" for row in rows)


if __name__ == "__main__":
    main()
