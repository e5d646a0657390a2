"""The page in a real browser: quiet, self-contained, narrow enough, readable, and reachable by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fittingroom.report import render
from tests.report.demo import demos

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120_000  # milliseconds: a busy machine takes its time to start a browser
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

# Of every element with text of its own: colour, background behind it, size. SVG text stands on the paper or on the tape.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = numbers(colour).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const tape = getComputedStyle(document.querySelector('.tape-band') || document.body).fill;
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor, parts = numbers(colour);
      if (parts.length === 3 || parts[3] > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join('');
    if (!text || ['SCRIPT', 'title', 'desc'].includes(element.tagName) || element.closest('.skip') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const fore = luminance(drawn ? style.fill : style.color);
    const back = luminance(element.classList.contains('tape-number') ? tape : behind(element));
    const ratio = (Math.max(fore, back) + 0.05) / (Math.min(fore, back) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} <${element.tagName} class="${element.getAttribute('class')}"> ${text.slice(0, 30)}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        launched = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    written = {name: folder / f"{name}.html" for name in demos()}
    for name, view in demos().items():
        written[name].write_text(render(view), encoding="utf-8")
    return written


class Visit:
    """A page that was opened, with all that it said and asked for."""

    def __init__(self, browser: Browser, path: Path, width: int = 1280, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce", **context)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def reload(self) -> None:
        """Load the page again as a person would: not within the moment in which the browser hands on what the page has just stored."""
        self.page.wait_for_timeout(250)
        self.page.reload()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *problem: object) -> None:
        self.context.close()


NAMES = list(demos())


@pytest.mark.parametrize("name", NAMES)
def test_quiet_self_contained_and_as_narrow_as_a_phone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with Visit(browser, pages[name], width=360) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert [address for address in visit.asked if not address.startswith(("data:", pages[name].as_uri()))] == []
        assert visit.said == []


@pytest.mark.parametrize("name", ["finished", "letters", "hostile", "failed", "on-test", "sealed"])
def test_all_text_meets_wcag_aa(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with Visit(browser, pages[name]) as visit:
        for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
            visit.page.emulate_media(media=media, color_scheme=scheme)
            assert visit.page.evaluate(CONTRASTS) == []


def test_the_contrast_check_finds_faint_text(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["finished"], bypass_csp=True) as visit:
        visit.page.add_style_tag(content=":root { --soft: #999999 }")
        assert any("tick" in line for line in visit.page.evaluate(CONTRASTS))


def test_paper_is_light_whatever_the_reader_chose(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["finished"], color_scheme="dark") as visit:
        visit.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert visit.page.evaluate("getComputedStyle(document.body).color") == "rgb(21, 24, 29)"


@pytest.mark.parametrize("name", ["finished", "letters", "hundred", "photos"])
def test_paper_is_wide_enough(browser: Browser, pages: dict[str, Path], name: str) -> None:
    with Visit(browser, pages[name], width=688) as visit:  # A4 less its margins, at 96 pixels an inch
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 688
        assert visit.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_the_light_switch_turns_and_is_remembered(browser: Browser, pages: dict[str, Path]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Visit(browser, pages["finished"], color_scheme="light") as visit:
        before = visit.page.evaluate(background)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        after = visit.page.evaluate(background)
        assert after != before
        visit.reload()
        assert visit.page.evaluate(background) == after


def test_tab_reaches_the_matrix_and_arrows_walk_it(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["finished"]) as visit:
        keyboard = visit.page.keyboard
        keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.className") == "skip"
        for _ in range(40):
            keyboard.press("Tab")
            if visit.page.evaluate("document.activeElement.closest('table.matrix td') !== null"):
                break
        else:
            pytest.fail("forty presses of Tab did not reach the matrix")
        assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert visit.page.locator("#matrix-readout").inner_text().startswith("T-shirt/top recognised: ")
        for _ in range(6):
            keyboard.press("ArrowRight")
        count = visit.page.evaluate("document.activeElement.firstChild.textContent")
        assert visit.page.locator("#matrix-readout").inner_text().startswith(f"T-shirt/top taken for Shirt: {count} of 1,000 (")
        keyboard.press("ArrowUp")
        assert visit.page.evaluate("document.activeElement.firstChild.textContent") == count
        keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.closest('table.matrix') === null")


def test_curves_read_out_by_key_and_pointer(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["finished"]) as visit:
        chart = visit.page.locator("svg.lines").first
        readout = visit.page.locator("#curves .readout").first
        assert "kept: training" in readout.inner_text()
        chart.focus()
        visit.page.keyboard.press("Home")
        assert readout.inner_text().startswith("epoch 1: training")
        visit.page.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("epoch 2: training")
        box = chart.bounding_box()
        assert box is not None
        chart.hover(position={"x": box["width"] * 322 / 400, "y": box["height"] / 2})
        assert readout.inner_text().startswith("epoch 14: training")


def test_the_page_is_whole_without_its_script(browser: Browser, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["finished"], java_script_enabled=False) as visit:
        assert visit.page.locator("#light").is_hidden()
        assert visit.page.locator("#matrix-readout").is_hidden()
        assert visit.page.locator("table.matrix tbody td").count() == 100
        assert visit.page.locator(".gallery img").count() == 24


def test_the_policy_stops_what_slips_in(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    sound = pages["finished"].read_text(encoding="utf-8")
    page.write_text(sound.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    with Visit(browser, page) as visit:
        assert visit.page.title() != "taken"
        assert any("Content Security Policy" in line for line in visit.said)
