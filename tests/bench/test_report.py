import io
import json
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fashion_infer.bench.page import RAW_ID, write_page
from fashion_infer.bench.report import notes, tables
from fashion_infer.bench.result import BenchResult


def text(result: BenchResult) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(*tables(result), *notes(result), sep="\n", soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_tables_show_every_part(result: BenchResult) -> None:
    shown = text(result)
    for words in ("end to end", "engine only", "decode", "MultiStream", "Server at 75%", "batch 1", "±", "INVALID"):
        assert words in shown
    assert "accuracy unverified" in shown
    assert "of the ceiling measured here" in shown


def test_a_percentile_without_enough_samples_is_a_dash(result: BenchResult) -> None:
    few = replace(result, latency={"e2e": result.latency["e2e"] | {"p99": None}})
    row = next(line for line in text(few).splitlines() if "end to end" in line)
    assert "-" in re.split("[│|]", row)[5]


def test_notes_say_what_was_not_measured(result: BenchResult) -> None:
    quick = replace(result, ceiling={}, reached={}, scenarios=[], settings=result.settings | {"starts": 1})
    said = "\n".join(notes(quick))
    assert "the share of the machine's ceiling was not measured" in said
    assert "no intervals" in said
    random = replace(result, model=result.model | {"trained": False})
    assert "weights are random" in "\n".join(notes(random))


def test_the_page_needs_no_other_file_and_holds_the_raw_samples(result: BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    odd = replace(result, provenance={"command": "</script><b>&"})
    write_page(odd, path)
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert not re.search(r"<(img|link|iframe)|(src|href)=['\"](https?:)?//", page)
    raw = re.search(f"id='{RAW_ID}'>(.*?)</script>", page, re.DOTALL)
    assert raw is not None
    assert json.loads(raw[1]) == json.loads(json.dumps(odd.to_dict()))
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in page
    assert list(tmp_path.iterdir()) == [path]
