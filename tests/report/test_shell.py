"""What all four kinds of page share: one shell, one light switch, a policy of their own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fittingroom.report import compare_page, page, tune_page
from tests.report.demo import finished
from tests.report.test_browser import CHROMIUM, Visit, browser
from tests.report.test_compare_page import comparison
from tests.report.test_page import Reader
from tests.report.test_study_page import page_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]  # a fixture


def search() -> str:
    from tests.tune.test_finalists import outcome

    pytest.importorskip("optuna")
    return tune_page.render(outcome())


PAGES: dict[str, Callable[[], str]] = {
    "run": lambda: page.render(finished()),
    "study": lambda: page_of("shallow"),
    "comparison": lambda: compare_page.render(comparison()),
    "search": search,
}
every_kind = pytest.mark.parametrize("kind", PAGES)


@every_kind
def test_one_shell_around_every_page(kind: str) -> None:
    written = PAGES[kind]()
    read = Reader(written)
    assert (read.wrong, read.open) == ([], [])
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"light", "main"} <= set(ids)
    assert read.text.count("Made by Fitting Room.") == 1
    assert re.search(r"<title>.+</title>", written)
    assert re.search(r'<p class="run-name">.+</p>', written)
    policy = next(a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", written, re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert written.count("fittingroom-theme") == 2, "there is one light switch: it reads what it has written"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@every_kind
def test_the_light_switch_turns_every_page(kind: str, browser: Browser, tmp_path: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    (tmp_path / "page.html").write_text(PAGES[kind](), encoding="utf-8")
    with Visit(browser, tmp_path / "page.html", color_scheme="light") as visit:
        before = visit.page.evaluate(background)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        after = visit.page.evaluate(background)
        visit.reload()
        assert visit.page.evaluate(background) == after != before
        assert visit.said == []
