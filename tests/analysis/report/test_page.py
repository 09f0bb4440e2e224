"""The report in a browser, opened from a file: sorting, filters, figures, themes, a narrow screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import QUICK, Command

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")
TINY = ("--backbone", "test_resnet", *QUICK[2:])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A report of a ranking with its orderings, and the ranking's document."""
    root = tmp_path_factory.mktemp("browser")
    run = Command(root / "runs")
    small = ("--dataset", str(folder), *TINY, "--set", "relative-location.hidden=16")
    document = run.json("rank", "rotation", "relative-location", "--seeds", "2", "--length", "2", *small)
    assert run("report", "--out", str(root / "report.html")).exit_code == 0
    return root / "report.html", document


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


class Seen:
    """What a page asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))


@pytest.fixture
def page(browser: Any, made: tuple[Path, dict[str, Any]]) -> Iterator[Any]:
    """The report at 1280 px; no test may end with an error or a request for anything but the file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened = context.new_page()
    seen = Seen(opened)
    opened.goto(made[0].as_uri())
    yield opened
    context.close()
    assert seen.faults == []
    assert {url for url in seen.requests if not url.startswith("data:")} == {made[0].as_uri()}


def table(page: Any, number: int) -> Any:
    return page.locator(f"#order-section table[id$='-{number}']").first


def raw(table: Any, column: int) -> list[str]:
    script = "(t, c) => [...t.tBodies[0].rows].filter(r => !r.hidden).map(r => r.cells[c].dataset.value)"
    return table.evaluate(f"(t) => ({script})(t, {column})")


def test_numbers_in_the_page_are_those_of_the_command(page, made):
    document = made[1]
    rows = [*document["baselines"].values(), *document["tasks"]]
    assert [float(value) for value in raw(table(page, 1), 1)] == [row["mean"] for row in rows]
    assert raw(table(page, 1), 0) == [*document["baselines"], *document["curriculum"]]
    assert [float(value) for value in raw(table(page, 2), 2)] == [row["mean"] for row in document["orderings"]]
    shown = table(page, 1).locator("tbody tr").nth(1).locator("td").first.inner_text()
    assert shown == f"{100 * rows[1]['mean']:.1f} ± {100 * rows[1]['std']:.1f}"


def test_sorts_by_raw_values_with_the_unknown_last(page):
    ranking = table(page, 1)
    given = raw(ranking, 3)
    assert given[0] == ""  # the baseline has no gain over itself
    head = ranking.locator("th", has_text="gain over scratch")
    known = sorted((value for value in given if value), key=float)
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert raw(ranking, 3) == [*known, ""]
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    falling = raw(ranking, 3)
    assert [float(value) for value in falling[:-1]] == sorted(map(float, known), reverse=True)
    assert falling[-1] == ""
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "none"
    assert raw(ranking, 3) == given
    ranking.locator("th button").first.click()
    assert raw(ranking, 0) == sorted(raw(ranking, 0))
    assert ranking.locator("[aria-sort=ascending]").count() == 1


def test_filters_count_what_they_show(page, made):
    page.locator("details").evaluate_all("all => all.forEach(e => { e.open = true; })")
    stages = page.locator("#table-stages")
    block = page.locator("[data-table]", has=stages)
    total = stages.locator("tbody tr").count()
    assert block.locator("output").inner_text() == f"{total} of {total} rows"
    block.locator("input").fill("rotation -> relative-location")
    shown = stages.locator("tbody tr:visible")
    assert 0 < shown.count() < total
    assert all("rotation → relative-location" in text for text in shown.all_inner_texts())
    assert block.locator("output").inner_text() == f"{shown.count()} of {total} rows"
    block.locator("input").fill("no such thing")
    assert block.locator("output").inner_text() == f"0 of {total} rows"
    block.locator("input").fill("")
    assert stages.locator("tbody tr:visible").count() == total


def test_figures_open_and_close_with_the_keyboard(page):
    figures = page.locator("figure")
    assert figures.count() > 0
    button = figures.first.locator(".enlarge")
    small = figures.first.locator("svg").bounding_box()
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator("svg").bounding_box()["width"] > small["width"]
    assert (
        page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size")
        == page.locator("[id]").count()
    )
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("e => e === document.activeElement")
    after = figures.first.locator("svg").bounding_box()
    assert (after["width"], after["height"]) == (small["width"], small["height"])
    figures.first.locator(".picture").click()
    assert dialog.is_visible()
    page.locator("#viewer-close").press("Space")
    assert not dialog.is_visible()


def test_dark_and_light(page, made):
    paper = "getComputedStyle(document.body).backgroundColor"
    light, text = page.evaluate(paper), "getComputedStyle(document.querySelector('figure svg text')).fill"
    ink = page.evaluate(text)
    page.locator("#theme").press("Enter")
    assert page.evaluate(paper) != light
    assert page.evaluate(text) != ink
    assert page.locator("#theme").inner_text() == "Light"
    page.locator("#theme").click()
    assert page.evaluate(paper) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) == light  # what was chosen holds


def test_the_system_says_dark(browser, made):
    context = browser.new_context(color_scheme="dark")
    opened = context.new_page()
    opened.goto(made[0].as_uri())
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert opened.locator("#theme").inner_text() == "Light"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page, scheme):
    page.emulate_media(color_scheme=scheme)
    script = """() => {
      const level = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => { v /= 255;
        return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (c !== "rgba(0, 0, 0, 0)") return c; } return "rgb(255, 255, 255)"; };
      const found = [];
      for (const e of document.querySelectorAll("body *:not(svg *)")) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
        const [a, b] = [level(getComputedStyle(e).color), level(behind(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.push(`${e.tagName} ${e.className} ${ratio.toFixed(2)}`);
      }
      return found;
    }"""
    assert page.evaluate(script) == []


def test_nothing_scrolls_sideways_on_a_narrow_screen_but_tables(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("details").evaluate_all("all => all.forEach(e => { e.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".enlarge").first.click()
    assert page.locator("dialog").bounding_box()["width"] <= 390


def test_every_control_is_reached_and_named(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    unnamed = "all => all.filter(e => !(e.textContent.trim() || e.getAttribute('aria-label'))).length"
    assert page.locator("button, a").evaluate_all(unnamed) == 0
    assert page.locator("svg:not([aria-label])").count() == 0
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.locator("th button").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate(outline) == "solid"


def test_commands_are_copied(page, browser):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    command = page.locator("#order-section .command").first
    command.locator(".copy").press("Enter")
    page.wait_for_function("document.querySelector('#order-section .copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == command.locator("code").inner_text()


def test_prints_light_with_what_is_folded_and_short(page):
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".controls").first.is_visible()
    page.locator("details").evaluate_all("all => all.forEach(e => { e.open = false; })")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.brief:not([open])").count() == 0
    assert page.locator("details[open]:not(.brief)").count() == 0  # no page after page of stages
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_answer_comes_first(page):
    first = page.locator("main > section").first
    assert first.get_attribute("class") == "summary"
    assert first.locator("dt").first.inner_text() == "Does pretraining help?"
    assert first.locator("figure svg").count() == 1
    top = first.locator("dt").first.bounding_box()["y"]
    assert top < page.locator("nav").bounding_box()["y"]
    assert top < 300
    assert not page.locator("#table-stages").is_visible()


def test_tables_that_are_too_wide_scroll_by_keyboard(page):
    page.set_viewport_size({"width": 390, "height": 800})
    wide = page.locator(".scroll").evaluate_all(
        "all => all.filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth).map(e => e.tabIndex)"
    )
    assert wide
    assert set(wide) == {0}


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page, width):
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("details").evaluate_all("all => all.forEach(e => { e.open = true; })")
    page.evaluate(script)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found = [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in result["violations"]]
        grave = [
            each for each, v in zip(found, result["violations"], strict=True) if v["impact"] in ("serious", "critical")
        ]
        assert grave == []
