"""The page as text: complete, self-contained, escaped, small."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fittingroom.errors import DataError
from fittingroom.report import Picture, RunView, render
from fittingroom.report.pictures import data_uri
from tests.report.demo import CLOTHES, demos, finished

VOID = {"meta", "link", "img", "br"}
PAGES = {name: render(view) for name, view in demos().items()}


class Reader(HTMLParser):
    """Collects elements and text, and notes a tag that closes another than the one last opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_a_last_epoch_that_was_cut_short_is_no_whole_one() -> None:
    view = finished()
    whole = len(view.history)
    assert f"({whole} epochs, " in Reader(render(view)).text
    shortened = dataclasses.replace(view, recipe={**view.recipe, "train": {"epochs": whole - 0.25}})
    assert f"({whole - 0.25} epochs, " in Reader(render(shortened)).text


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_well_formed_with_unique_ids_and_sound_anchors(name: str) -> None:
    page = Reader(PAGES[name])
    assert (page.wrong, page.open) == ([], [])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
        for label in (attributes.get("aria-labelledby") or "").split():
            assert label in ids


@pytest.mark.parametrize("name", PAGES)
def test_no_page_names_anything_outside_itself(name: str) -> None:
    for tag, attributes in Reader(PAGES[name]).elements:
        assert tag not in ("iframe", "object", "embed", "form", "base")
        for key, value in attributes.items():
            assert not key.startswith("on")
            assert key != "style"
            if key in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:image/"))
    assert "@import" not in PAGES[name]


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_allows_this_style_and_this_script_alone(name: str) -> None:
    page = PAGES[name]
    policy = next(a["content"] for t, a in Reader(page).elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", ["finished", "sealed", "photos", "hundred"])
def test_pages_stay_below_400_kilobytes(name: str) -> None:
    assert len(PAGES[name].encode()) < 400_000


def test_noisy_photographs_stay_small_too() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 200, 150, 3), dtype=np.uint8)
    pictures = [Picture(pixels, "hat", "shoe", 0.9) for pixels in noise]
    assert len(render(finished(pictures=pictures)).encode()) < 400_000


def test_rendering_is_pure() -> None:
    assert render(demos()["finished"]) == PAGES["finished"]


def test_headline_and_summary_say_what_happened() -> None:
    view = finished()
    assert view.test is not None
    text = Reader(PAGES["finished"]).text
    assert f"Test accuracy {view.test.accuracy * 100:.2f}%" in text
    assert "compact learnt fashion-mnist from 48,000 images in 1 min 42 s (14 epochs, 2 CPU threads, bf16)." in text
    assert f"It gets {view.test.correct:,} of 10,000 test images it had never seen right." in text
    pair = view.test.confused_pairs[0]
    assert f"{CLOTHES[pair.true]} taken for {CLOTHES[pair.predicted]}, {pair.count} times in 1,000" in text
    assert "The test set was opened 1 time. The figure is that of a first look." in text
    assert "20 November 2026, 14:32 UTC" in text
    assert view.test.classification_report(4).split() == re.findall(r"<pre>(.*?)</pre>", PAGES["finished"], re.DOTALL)[0].split()


def test_the_number_of_training_images_can_be_told_apart_from_the_samples() -> None:
    text = Reader(render(finished(samples={}, training_images=123))).text
    assert "learnt fashion-mnist from 123 images in" in text


def test_a_sealed_test_set_is_said_and_validation_speaks() -> None:
    text = Reader(PAGES["sealed"]).text
    assert "Test set sealed" in text
    assert "Validation accuracy" in text
    assert "Test accuracy" not in text
    assert "never seen" not in text


def test_validation_on_the_test_images_is_named_and_never_called_unseen() -> None:
    text = Reader(PAGES["on-test"]).text
    assert "Test set used for validation" in text
    assert "no estimate for unseen images" in text
    assert "never seen" not in text


def test_several_openings_are_counted_and_warned_of() -> None:
    text = Reader(PAGES["hostile"]).text
    assert "The test set was opened 3 times." in text
    assert "should not take the last figure" in text


def test_a_failed_run_says_why_and_shows_what_there_is() -> None:
    text = Reader(PAGES["failed"]).text
    assert "Training failed: the loss is not finite at epoch 3, step 412; try a lower learning rate." in text
    assert "Learning curves" in text
    assert "Confusion" not in text


def test_a_run_that_has_not_begun_has_a_page() -> None:
    assert "svc is to learn digits." in Reader(PAGES["created"]).text


def test_one_epoch_gives_figures_in_place_of_curves() -> None:
    text = Reader(PAGES["one-epoch"]).text
    assert "Trained in a single pass" in text
    assert "Validation accuracy" in text


def test_hostile_names_stay_text() -> None:
    page = Reader(PAGES["hostile"])
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "49" not in re.findall(r"taken for (\S+)", page.text)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not [1 for tag, attributes in page.elements if tag == "img" and attributes.get("src") == "x"]
    assert "<b>bold</b>" not in PAGES["hostile"]
    assert "<u>why</u>" not in PAGES["hostile"]


def test_the_recipe_shows_origins_of_what_was_chosen() -> None:
    text = Reader(PAGES["finished"]).text
    assert "lr0.02command line" in text
    assert "momentum0 " in text


def test_charts_have_tables_behind_them() -> None:
    text = Reader(PAGES["finished"]).text
    for table in ("Every epoch as a table", "Bin by bin", "As text", "Images per class"):
        assert table in text
    assert "one in 6" in Reader(PAGES["long"]).text


def test_a_history_with_holes_is_drawn() -> None:
    first, second = {"loss": 1.0, "accuracy": 0.5}, {"loss": None, "accuracy": 0.6}
    history = [{"epoch": 1, "train": first}, {"epoch": 2, "train": second, "validation": {}}, {}]
    assert "Learning curves" in render(finished(history=history, measures=None, kept_epoch=None))


def test_a_kept_epoch_beyond_the_history_does_no_harm() -> None:
    assert "epoch 14: training" in render(finished(kept_epoch=99))


def test_the_least_view() -> None:
    assert render(RunView("r", "m", "d", "running", {}, {})).startswith("<!doctype html>")


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (5, 9, 3), (64, 64, 1)])
def test_small_pictures_are_kept_bit_for_bit(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    head, _, content = data_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert (read.reshape(shape) == pixels).all()


@pytest.mark.parametrize("shape", [(64, 64, 3), (300, 200, 3), (1, 900, 1)])
def test_large_pictures_become_thumbnails(shape: tuple[int, int, int]) -> None:
    content = data_uri(np.full(shape, 77, np.uint8)).partition(",")[2]
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert max(image.size) <= 64
    assert image.convert("RGB").getpixel((0, 0)) == (77, 77, 77)


@pytest.mark.parametrize(("shape", "kind"), [((4, 4), "uint8"), ((4, 4, 2), "uint8"), ((4, 4, 1), "float64"), ((0, 4, 1), "uint8")])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(DataError, match="picture"):
        data_uri(np.zeros(shape, kind))


def test_importing_the_room_is_light() -> None:
    code = "import sys, fittingroom.report; sys.exit(bool({'torch', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
