import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fashion_infer.bench.limits import limits
from fashion_infer.bench.page import RAW_ID, write_bench_page
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
    all_notes = "\n".join(notes(quick))
    assert "the share of the machine's ceiling was not measured" in all_notes
    assert "no intervals" in all_notes
    random = replace(result, model=result.model | {"trained": False})
    assert "weights are random" in "\n".join(notes(random))


def test_a_judged_accuracy_stands_beside_the_speed(result: BenchResult) -> None:
    parity = {"images": 32, "float_layers": ["a", "b"], "differences": {"category": 0.1}}
    judged = replace(result, model=result.model | {"parity": parity, "accuracy": {"category_top1": [0.9, 0.8875]}})
    assert "parity images 32, float_layers 2, accuracy category_top1 0.9 to 0.8875" in "\n".join(notes(judged))


def test_the_page_needs_no_other_file_and_holds_the_raw_samples(result: BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    odd = replace(result, provenance={"command": "</script><b>&"})
    write_bench_page(odd, path)
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert page.count("<table") == 4
    assert not re.search(r"<(img|link|iframe)|(src|href)=['\"](https?:)?//", page)
    raw = re.search(f"id='{RAW_ID}'>(.*?)</script>", page, re.DOTALL)
    assert raw is not None
    assert json.loads(raw[1]) == json.loads(json.dumps(odd.to_dict()))
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in page
    assert html.escape(limits(odd)) in page
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_of_a_quick_result_has_what_was_measured(result: BenchResult, tmp_path: Path) -> None:
    too_few = {name: dict.fromkeys(row) | {"samples": 2} for name, row in result.latency.items()}
    quick = replace(result, ceiling={}, reached={}, scenarios=[], latency=too_few)
    write_bench_page(quick, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("<table") == 3
    assert "ceiling: a large matrix product" not in page
    assert "MLPerf&#x27;s scenarios" not in page


def test_percentiles_are_marked_with_their_values(result: BenchResult, tmp_path: Path) -> None:
    write_bench_page(result, tmp_path / "report.html")
    plot = (tmp_path / "report.html").read_text(encoding="utf-8").split("<svg")[1]
    for name in ("e2e", "engine"):
        assert f">{result.latency[name]['p50'].value:.3g}<" in plot
    assert all(f">p{percentile}<" in plot for percentile in ("50", "90", "99", "99.9"))
