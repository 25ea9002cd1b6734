"""The page in a real browser: Debian's chromium, driven by Playwright."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from fashion_infer import Predictor
from fashion_infer.serve.page import policy
from tests.serve.conftest import Running

CHROMIUM = shutil.which("chromium")
BAD_NAME = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The page; after each test, its requests and the errors in its console are checked."""
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    errors: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(server.url)
    yield page
    page.close()
    assert [url for url in urls if not url.startswith((server.url, "data:", "blob:"))] == []
    assert [text for text in errors if "the server responded with a status of" not in text] == []


@pytest.fixture
def photo_file(photo: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    return path


def asked_box(url: str) -> list[float]:
    """The box in a request's URL."""
    (box,) = json.loads(parse_qs(urlsplit(url).query)["boxes"][0])
    return list(box)


def chosen(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)


def test_a_photo_gives_its_category_attributes_and_landmarks(page, model, photo, photo_file) -> None:
    with Predictor(model, threads=1) as predictor:
        prediction = predictor.predict(photo)
    chosen(page, photo_file)
    expect(page.locator("#categories li").first).to_contain_text(prediction.category.name)
    expect(page.locator("#categories li")).to_have_count(5)
    expect(page.locator("#landmarks li")).to_have_count(8)
    assert prediction.colors
    expect(page.locator("#colors li")).to_have_count(len(prediction.colors))
    for place, color in enumerate(prediction.colors):
        row = page.locator("#colors li").nth(place)
        expect(row).to_contain_text(color.name)
        red, green, blue = bytes.fromhex(color.hex[1:])
        expect(row.locator("span")).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
    for attribute in prediction.attributes:
        expect(page.locator("#attributes")).to_contain_text(attribute.name)
    expect(page.locator("#status")).to_contain_text(prediction.category.name)


def test_landmarks_are_drawn_on_the_photo(page, model, photo, photo_file) -> None:
    with Predictor(model, threads=1) as predictor:
        points = [p for p in predictor.predict(photo).landmarks if p.visibility != "truncated"]
    assert points
    chosen(page, photo_file)
    expect(page.locator("#landmarks li")).to_have_count(8)
    x, y = min(max(points[-1].x, 2), 253), min(max(points[-1].y, 2), 253)
    color = page.evaluate(
        "([x, y]) => [...document.getElementById('canvas').getContext('2d').getImageData(x, y, 1, 1).data]", [x, y]
    )
    expected = {"visible": [18, 184, 134], "occluded": [245, 159, 0]}[points[-1].visibility]
    assert color[:3] == pytest.approx(expected, abs=12)


def test_similar_items_with_match_and_why(page, server, photo_file) -> None:
    chosen(page, photo_file)
    expect(page.locator("#hits li")).to_have_count(12)
    expect(page.locator("#hits li").first).to_contain_text(re.compile("same category|differs in category"))
    expect(page.locator("#hits img").first).to_be_visible()
    natural = page.locator("#hits img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert natural > 0


def test_names_are_no_html(page, server, photo, photo_file) -> None:
    path = f"/v1/items/{quote(BAD_NAME, safe='')}"
    assert server.ask("PUT", path, photo, {"Content-Type": "image/jpeg"}).status == 201
    try:
        chosen(page, photo_file)
        expect(page.locator("#hits")).to_contain_text(BAD_NAME)
        assert page.title() == "fashion-infer"
    finally:
        assert server.ask("DELETE", path).status == 204


def test_drawing_a_box_sends_it(page, photo_file) -> None:
    chosen(page, photo_file)
    expect(page.locator("#categories li").first).to_be_visible()
    area = page.locator("#canvas").bounding_box()
    assert area is not None
    with page.expect_response(lambda response: "v1/predict?boxes=" in response.url) as asked:
        page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + area["height"] * 0.25)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.75, area["y"] + area["height"] * 0.75)
        page.mouse.up()
    assert asked_box(asked.value.url) == pytest.approx([64, 64, 192, 192], abs=2)
    with page.expect_response(lambda response: response.url.endswith("v1/predict?")):
        page.get_by_role("button", name="Whole photo").click()


def test_the_keyboard_is_enough(page, photo_file) -> None:
    page.keyboard.press("Tab")  # the link to the API
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    chosen(page, photo_file)
    expect(page.locator("#categories li").first).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "canvas"
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    with page.expect_response(lambda response: "v1/predict?boxes=" in response.url) as asked:
        page.keyboard.press("Enter")
    assert asked_box(asked.value.url) == [69, 64, 197, 197]
    with page.expect_response(lambda response: response.url.endswith("v1/predict?")):
        page.keyboard.press("Escape")


def test_a_file_that_is_no_photo_gives_an_error(page, tmp_path, photo_file) -> None:
    (tmp_path / "no.jpg").write_text("no photo")
    chosen(page, tmp_path / "no.jpg")
    expect(page.locator("#status.error")).to_contain_text("image")
    expect(page.locator("#result")).to_be_hidden()
    chosen(page, photo_file)  # the next photo works
    expect(page.locator("#categories li").first).to_be_visible()
    expect(page.locator("#status.error")).to_have_count(0)


def test_a_photo_can_be_dropped(page, photo) -> None:
    page.evaluate(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "a.jpg", { type: "image/jpeg" }));
            const drop = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
            document.getElementById("drop").dispatchEvent(drop);
        }""",
        list(photo),
    )
    expect(page.locator("#categories li").first).to_be_visible()


def test_a_narrow_window_needs_no_horizontal_scrolling(page, photo_file) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    chosen(page, photo_file)
    expect(page.locator("#hits li")).to_have_count(12)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    result, photo = page.locator("#result").bounding_box(), page.locator("#canvas").bounding_box()
    assert result is not None
    assert photo is not None
    assert result["y"] >= photo["y"] + photo["height"]  # below the photo, not beside it


def test_nothing_but_the_pages_own_script_runs(browser, server) -> None:
    """The policy stops a script that is inserted into the page."""
    page = browser.new_page()
    page.goto(server.url)
    assert "unsafe" not in server.ask("GET", "/").headers["content-security-policy"]
    page.evaluate(
        """() => { const bad = document.createElement("script"); bad.textContent = "document.title = 'bad'";
                   document.body.append(bad); }"""
    )
    assert page.title() == "fashion-infer"
    page.close()


def test_the_documentation_loads_no_other_file(browser, server) -> None:
    page = browser.new_page()
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{server.url}/docs")
    expect(page.locator("summary").filter(has_text="/v1/predict")).to_be_visible()
    page.locator("summary").filter(has_text="/v1/predict").click()
    expect(page.get_by_text("pixels of the upright image").first).to_be_visible()
    assert urls == [f"{server.url}/docs"]
    page.close()


def test_a_policy_allows_scripts_by_hash_only() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy(["let a = 1"]).split("; "))
    assert rules["default-src"] == rules["style-src"] == "'none'"
    assert rules["script-src"].startswith("'sha256-")
