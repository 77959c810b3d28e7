"""The pages in a real browser: every control, every column, addresses, keys, and axe-core."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from browser import find_browser, launch
from pages import (
    COMMAND,
    HOSTILE,
    make_prediction,
    make_reproduction,
    make_run,
    make_runs,
    make_seeds,
    usual_records,
    usual_run,
)

if find_browser() is None:
    pytest.skip("no Chromium is installed: the pages are not looked at", allow_module_level=True)
playwright_api = pytest.importorskip("playwright.sync_api")
AXE = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script
VIOLATIONS = """([part, options]) => axe.run(part, options).then((found) => found.violations.map(
  (one) => [one.help, ...one.nodes.map((node) => `${node.target}: ${node.failureSummary}`)]))"""

Page, Browser = playwright_api.Page, playwright_api.Browser
WIDTHS = (1300, 800, 390)
KINDS = ("run", "prediction", "seeds", "reproduction", "runs")
RECORDS = usual_records()
N_IMAGES = sum(len(record.images) for record in RECORDS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with playwright_api.sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind."""
    root = tmp_path_factory.mktemp("pages")
    return {
        "run": usual_run(root / "run"),
        "prediction": make_prediction(root / "prediction", 60, 20_000),
        "seeds": make_seeds(root / "result/run_seeds"),
        "reproduction": make_reproduction(root / "reproduction"),
        "runs": make_runs(root / "runs"),
    }


class Visit:
    """A page that is looked at; whatever the browser complains of is kept."""

    def __init__(self, page: Page, path: Path, address: str = "") -> None:
        self.page, self.path = page, path
        self.complaints: list[str] = []
        self._listeners = {
            "console": lambda message: self.complaints.append(message.text),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "dialog": lambda dialog: self.complaints.append(dialog.message),
            "requestfailed": self._request_failed,
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)
        page.goto(f"file://{quote(str(path))}{address}")

    def close(self) -> None:
        hacked = self.page.evaluate("window.hacked")
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.goto("about:blank")
        assert hacked is None
        assert not self.complaints

    def _request_failed(self, request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by leaving a page before all had come
            self.complaints.append(request.url)

    @property
    def hash(self) -> str:
        return self.page.evaluate("location.hash")

    def count(self, name: str) -> int:
        return int(self.page.locator(f'[data-count="{name}"]').text_content())

    def titles(self) -> list[str]:
        """The titles of the cards, all of them."""
        self.page.evaluate("for (let i = 0; i < 50 && !more.hidden; i += 1) more.click()")
        return self.page.locator(".card .name span:first-child").all_text_contents()

    def focused(self) -> str:
        script = "document.activeElement.getAttribute('aria-label') || document.activeElement.id"
        return self.page.evaluate(script)


@pytest.fixture(scope="session")
def pages(browser: Browser) -> list[Page]:
    """Windows that tests use one after the other: a new one takes longer than most tests."""
    return []


@pytest.fixture
def visit(browser: Browser, pages: list[Page], made: dict[str, Path]) -> Iterator:
    """Opens pages, and checks at the end that the browser complained of nothing."""
    visits: list[Visit] = []

    def go(kind: str | Path, address: str = "") -> Visit:
        if len(visits) == len(pages):
            pages.append(browser.new_page())
            pages[-1].set_default_timeout(5000)
        page = pages[len(visits)]
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.emulate_media(color_scheme="light")
        path = kind if isinstance(kind, Path) else made[kind]
        visits.append(Visit(page, path, address))
        return visits[-1]

    yield go
    for one in visits:
        one.close()


def title_of(name: str, image) -> str:
    return " / ".join((name, image.defect, image.path.split("/")[-1]))


def wanted(kind: str, factor: float = 1.0) -> set[str]:
    """The titles that a filter must show, as Python counts them."""
    found = set()
    for record in RECORDS:
        for image in record.images:
            limit = record.image_threshold and record.image_threshold.value * factor
            flagged = limit is not None and image.score > limit
            fits = {
                "missed": limit is not None and image.label == 1 and not flagged,
                "false": image.label == 0 and flagged,
                "misranked": image.misranked > 0,
                "all": True,
            }[kind]
            if fits:
                found.add(title_of(record.class_name, image))
    return found


# ---- what a reader may expect of every page


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_shut_out_and_nothing_is_cut(kind: str, visit) -> None:
    """axe-core at three widths in both schemes; nothing wider than the window, no image missing."""
    # A few cards stand for all: axe looks at every element, which takes its time.
    here = visit(
        kind, "#name=001" if kind == "run" else "#name=000" if kind == "prediction" else ""
    )
    for details in here.page.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    for width in WIDTHS:
        here.page.set_viewport_size({"width": width, "height": 900})
        check_access(here.page)
        assert here.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        check_tables(here.page)
    missing = "Array.from(document.images).filter((i) => i.complete && !i.naturalWidth).length"
    assert here.page.evaluate(missing) == 0


def check_access(page: Page, part: str = "html") -> None:
    """Every rule of axe-core; in the dark scheme those of colour, which alone depend on it."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE)
    colours = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
    for scheme, chosen in (("light", {}), ("dark", colours)):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate(VIOLATIONS, [part, {"resultTypes": ["violations"], **chosen}])
        assert found == [], scheme


def check_tables(page: Page) -> None:
    """A table is whole, or says that it goes on."""
    said = page.evaluate(
        """Array.from(document.querySelectorAll(".scroll")).filter((r) => r.clientWidth).map((r) =>
        [r.scrollWidth > r.clientWidth + 1, !r.parentElement.querySelector(".scroll-hint").hidden,
        r.parentElement.classList.contains("more-right")])"""
    )
    assert said or not page.locator("table:visible").count()
    for goes_on, has_hint, has_shade in said:
        assert has_hint == has_shade == goes_on


def test_the_large_view_too(visit) -> None:
    for kind in ("run", "prediction"):
        here = visit(kind)
        here.page.locator(".open").first.click()
        check_access(here.page, "#dialog")
        assert here.page.evaluate("dialog.getBoundingClientRect().width === innerWidth")


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_sorted(kind: str, visit) -> None:
    here = visit(kind)
    for table in here.page.locator("table.sortable").all():
        for column, (before, up, down, after) in enumerate(table.evaluate(CLICK_THROUGH)):
            assert after == before
            assert len(up) == len(before)
            for values, is_down in ((up, False), (down, True)):
                known = [value for value in values if value is not None]
                assert known == values[: len(known)], "what has no number comes last"
                if column:
                    assert known == sorted(known, reverse=is_down)
            assert sorted(up, key=str) == sorted(before, key=str)
            assert column or up == down[::-1]


# What a column holds before its heading is clicked, and after each of three clicks.
CLICK_THROUGH = """table => Array.from(table.tHead.rows[0].cells).map((head, column) => {
  const values = () => Array.from(table.tBodies[0].rows).map((row) => {
    const cell = row.cells[column];
    if (column === 0) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  });
  const seen = [values()];
  for (let i = 0; i < 3; i += 1) { head.querySelector("button").click(); seen.push(values()); }
  return seen;
})"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_by_tab_is_short(kind: str, visit) -> None:
    """One stop for a row of headings, one for a column of classes, one for all cards."""
    here = visit(kind)
    stops = []
    for _ in range(60):
        here.page.keyboard.press("Tab")
        stop = "const e = document.activeElement; e === document.body ? '' : e.outerHTML"
        shown = here.page.evaluate(f"(() => {{ {stop.replace('e ===', 'return e ===')} }})()")
        if not shown or shown in stops[:1]:
            break
        stops.append(shown)
    tables = here.page.locator("table.sortable:visible").count()
    controls = here.page.locator("select:visible, input:visible:not([type=radio])").count()
    links = here.page.locator("a:visible, summary:visible, button:visible:not(table *, .open)")
    assert len(stops) <= 2 * tables + controls + links.count() + 3
    assert sum('class="open"' in stop for stop in stops) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_text(kind: str, visit) -> None:
    here = visit(kind)
    assert any(name in here.page.locator("body").inner_text() for name in HOSTILE)
    # What the browser was told to do by a name would be done by now; see Visit.close.
    assert here.page.locator("b[onclick], img[onerror]").count() == 0


def test_the_command_line_is_shown(visit) -> None:
    here = visit("run")
    here.page.get_by_text("How this was made").click()
    assert here.page.locator(".command").inner_text() == COMMAND
    assert "layer1, layer2" in here.page.locator("dl").inner_text()
    assert "None" not in here.page.locator("dl").inner_text()


# ---- the gallery of a run


def test_from_the_top_to_the_worst_missed_defect_and_back_by_keys(visit) -> None:
    here = visit("run")
    worst = min(
        (image.score / record.image_threshold.value, title_of(record.class_name, image))
        for record in RECORDS
        if record.image_threshold
        for image in record.images
        if image.label == 1
    )[1]
    keys = ("Tab", "Enter", "Enter")
    for key in keys:
        here.page.keyboard.press(key)
    assert here.page.locator("#large-name").text_content() == worst
    assert "missed defect" in here.page.locator("#large-caption").inner_text()
    here.page.keyboard.press("Escape")
    here.page.wait_for_selector("#dialog", state="hidden")
    assert here.focused() == f"Enlarge {worst}"
    assert len(keys) + 1 <= 8


@pytest.mark.parametrize("kind", ["all", "missed", "false", "misranked"])
def test_filters_show_what_they_say(kind: str, visit) -> None:
    here = visit("run")
    here.page.locator(f'[name="show"][value="{kind}"]').check(force=True)
    assert set(here.titles()) == wanted(kind)
    assert here.count(kind) == len(wanted(kind))
    assert here.hash == ("" if kind == "all" else f"#show={kind}")


def test_class_defect_name_and_picture_narrow_the_choice(visit) -> None:
    here = visit("run")
    here.page.select_option("#class", HOSTILE[0])
    assert len(here.titles()) == 15
    here.page.select_option("#defect", f"kind:{HOSTILE[4]}")
    assert len(here.titles()) == 3
    assert all(HOSTILE[4] in title for title in here.titles())
    here.page.locator("button[type=reset]").click()
    assert len(here.titles()) == N_IMAGES
    here.page.select_option("#defect", "kind:good")  # a kind of defect that is called so
    assert all(" / good / " in title for title in here.titles())
    assert 0 < len(here.titles()) < N_IMAGES
    here.page.select_option("#defect", "all")
    here.page.fill("#search", "SCRATCH /00")
    assert all("scratch" in title for title in here.titles())
    here.page.fill("#search", "nothing is called so")
    assert "No image" in here.page.locator("#count").inner_text()
    here.page.fill("#search", "")
    here.page.check("#drawn")
    assert len(here.titles()) == N_IMAGES - 6


@pytest.mark.parametrize("order", ["high", "low", "name", "worst"])
def test_orders(order: str, visit) -> None:
    here = visit("run")
    here.page.select_option("#class", "bottle")
    here.page.select_option("#sort", order)
    titles = here.titles()
    images = {title_of("bottle", image): image for image in RECORDS[0].images}
    scores = [images[title].score for title in titles]
    if order in ("high", "low"):
        assert scores == sorted(scores, reverse=order == "high")
    elif order == "worst":
        wrong = wanted("missed") | wanted("false")
        n_wrong = len(wrong & set(images))
        assert set(titles[:n_wrong]) == wrong & set(images)
        by = [20 / images[t].score if images[t].label else images[t].score / 20 for t in titles]
        assert by[:n_wrong] == sorted(by[:n_wrong], reverse=True)
    else:
        paths = [images[title].path for title in titles]
        natural = "(names) => names.slice().sort(new Intl.Collator('en', {numeric: true}).compare)"
        assert paths == here.page.evaluate(natural, paths)


def test_the_slider_moves_all_that_follows_from_the_threshold(visit) -> None:
    here = visit("run")
    assert not here.page.locator("#explored").is_visible()
    slider = here.page.locator("#slider")
    slider.focus()
    for _ in range(12):
        here.page.keyboard.press("PageUp")
    here.page.keyboard.press("ArrowLeft")
    factor = float(re.search(r"factor=([\d.]+)", address(here))[1])
    assert factor > 1.2
    for kind in ("missed", "false"):
        assert here.count(kind) == len(wanted(kind, factor)) != len(wanted(kind))
    here.page.locator('[name="show"][value="missed"]').check(force=True)
    assert set(here.titles()) == wanted("missed", factor)
    assert here.page.locator(".card .badge.wrong").count() == len(wanted("missed", factor))
    assert here.page.locator("#explored").is_visible()
    assert "not a result" in here.page.locator("#explored").inner_text()
    here.page.locator("#honest").click()
    assert set(here.titles()) == wanted("missed")
    assert not here.page.locator("#explored").is_visible()
    assert here.hash == "#show=missed"


def address(here: Visit) -> str:
    """The address when all changes have been written to it."""
    here.page.wait_for_timeout(350)
    return here.hash


def test_one_class_has_its_threshold_in_scores(visit) -> None:
    here = visit("run", "#class=bottle&factor=1.5")
    assert "threshold 30," in here.page.locator("#explored").inner_text()
    assert here.page.locator("#multiples").inner_text() == ""
    label = here.page.locator("#histogram [role=img]").get_attribute("aria-label")
    missed = sum(image.label == 1 and not image.score > 30 for image in RECORDS[0].images)
    assert f"{missed} of 40 defects missed, 0 of 20 good images flagged" in label
    here.page.select_option("#class", "no threshold")
    assert not here.page.locator("#slider").is_visible()
    assert "No threshold" in here.page.locator("#threshold-text").inner_text()


def test_a_selection_is_saved_as_csv(visit) -> None:
    here = visit("run", "#show=missed&factor=1.1")
    with here.page.expect_download() as download:
        here.page.locator("#save").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {
        " / ".join((row["class"], row["defect"], row["path"].split("/")[-1])) for row in rows
    } == wanted("missed", 1.1)
    assert {row["decision"] for row in rows} == {"normal"}
    scores = {image.path: image.score for image in RECORDS[0].images}
    for row in rows:
        if row["class"] == "bottle":
            assert float(row["score"]) == scores[row["path"]]
            assert float(row["threshold"]) == pytest.approx(22)


def test_back_reload_and_a_link_restore_what_was_shown(visit) -> None:
    here = visit("run")
    here.page.select_option("#class", HOSTILE[1])
    here.page.select_option("#sort", "low")
    here.page.locator('[name="show"][value="misranked"]').check(force=True)
    here.page.fill("#search", "test")
    here.page.locator("#slider").focus()
    here.page.keyboard.press("PageDown")
    shown, state = here.titles(), address(here)
    assert state.count("=") == 5
    here.page.reload()
    assert (here.titles(), here.hash) == (shown, state)
    other = visit("run", state)
    assert other.titles() == shown
    assert other.page.input_value("#search") == "test"
    here.page.go_back()
    assert "factor" not in here.hash and not here.page.locator("#explored").is_visible()
    here.page.go_back()
    assert here.page.input_value("#search") == ""
    here.page.go_back()
    assert here.page.locator('[name="show"][value="all"]').is_checked()
    here.page.go_back()
    assert here.page.input_value("#sort") == "worst"
    here.page.go_back()
    assert here.page.input_value("#class") == ""
    here.page.go_forward()
    assert here.page.input_value("#class") == HOSTILE[1]


def test_back_closes_the_large_view_first(visit) -> None:
    here = visit("run")
    here.page.select_option("#class", "bottle")
    here.page.locator(".open").nth(3).click()
    first = here.page.locator("#large-name").text_content()
    assert "image=bottle%2Ftest" in here.hash
    here.page.keyboard.press("ArrowRight")
    here.page.locator("#next").click()
    here.page.locator("#previous").click()
    here.page.keyboard.press("j")
    second = here.page.locator("#large-name").text_content()
    assert first != second
    assert here.page.locator("#position").inner_text() == "6 of 60"
    link = here.hash
    here.page.go_back()
    here.page.wait_for_selector("#dialog", state="hidden")
    assert here.hash == "#class=bottle"
    assert here.focused() == f"Enlarge {second}"
    other = visit("run", link)
    assert other.page.locator("#large-name").text_content() == second
    other.page.reload()
    assert other.page.locator("#large-name").text_content() == second
    other.page.go_back()
    other.page.wait_for_selector("#dialog", state="hidden")
    assert other.hash == "#class=bottle"


@pytest.mark.parametrize("way", ["Escape", "button"])
def test_closing_leaves_no_trace_in_the_history(way: str, visit, pages) -> None:
    if pages:
        pages.pop(0).close()  # the history of a window is cut at 50 entries
    here = visit("run")
    here.page.locator('[name="show"][value="missed"]').check(force=True)
    before = here.page.evaluate("history.length")
    here.page.evaluate("scrollTo(0, 1500)")
    for _ in range(3):
        here.page.locator(".open").nth(2).click()
        here.page.wait_for_selector("#dialog", state="visible")
        if way == "button":
            here.page.locator("#close").click()
        else:
            here.page.keyboard.press("Escape")
        here.page.wait_for_selector("#dialog", state="hidden")
    assert here.page.evaluate("history.length") <= before + 1
    here.page.go_back()
    assert here.hash == ""


def test_cards_by_keys(visit) -> None:
    here = visit("run", "#class=bottle")
    here.page.evaluate("images.scrollIntoView()")
    titles = here.titles()
    here.page.reload()
    here.page.locator(".open").first.focus()
    for key, position in (
        ("j", 1),
        ("ArrowRight", 2),
        ("k", 1),
        ("ArrowLeft", 0),
        ("ArrowDown", 2),
    ):
        here.page.keyboard.press(key)
        assert here.focused() == f"Enlarge {titles[position]}"
    for _ in range(len(titles)):
        here.page.keyboard.press("j")
    assert here.focused() == f"Enlarge {titles[-1]}"


def test_a_class_of_the_table_leads_to_its_images(visit) -> None:
    here = visit("run")
    here.page.locator("[data-class] button").nth(1).click()
    assert here.page.input_value("#class") == HOSTILE[0]
    here.page.locator("[data-class] button").first.focus()
    here.page.keyboard.press("ArrowDown")
    here.page.keyboard.press("ArrowUp")
    here.page.keyboard.press("Enter")
    assert here.page.input_value("#class") == "bottle"
    here.page.locator('nav a[href="#curves"]').click()
    assert here.focused() == "curves"
    assert here.hash == "#class=bottle"


def test_good_images_show_no_ground_truth(visit) -> None:
    here = visit("run", "#class=bottle")
    names = here.page.locator(".card").evaluate_all(
        "cards => cards.map((card) => [card.textContent, card.querySelectorAll('.panel').length])"
    )
    goods = {title_of("bottle", image) for image in RECORDS[0].images if image.label == 0}
    for text, n_panels in names:
        assert n_panels == (4 if any(title in text for title in goods) else 5)
        assert ("ground truth" in text) == (n_panels == 5)


def test_a_figure_that_is_gone_is_named(browser: Browser, tmp_path: Path) -> None:
    path = make_run(tmp_path, RECORDS[:1])
    gone = tmp_path / RECORDS[0].images[0].figure
    gone.unlink()
    page = browser.new_page()
    page.goto(f"file://{path}#defect=good&sort=name")
    page.evaluate("cards.scrollIntoView()")
    page.wait_for_selector(".absent")
    assert page.locator(".absent").inner_text() == f"not found: {RECORDS[0].images[0].figure}"
    page.close()


# ---- the gallery of a prediction


def test_a_prediction_says_what_it_shows(visit) -> None:
    here = visit("prediction")
    said = here.page.locator("#partial").inner_text()
    assert "60 highest scores of 20000 images judged" in said
    assert here.page.locator("#count").inner_text() == "60 images on this page, 20000 judged"
    n_defective = here.count("defective")
    assert n_defective + here.count("normal") == 60
    here.page.locator('a[data-show="defective"]').click()
    assert len(here.titles()) == n_defective
    assert here.page.locator(".badge", has_text="defective").count() == n_defective


def test_overlay_and_original_change_places(visit) -> None:
    here = visit("prediction")
    picture = here.page.locator(".card img").first
    assert "overlays/" in picture.get_attribute("src")
    here.page.check("#plain")
    assert "originals/" in picture.get_attribute("src")
    assert here.hash == "#plain=1"
    here.page.locator(".open").nth(1).focus()
    title = here.focused()
    here.page.keyboard.press("o")
    assert "overlays/" in picture.get_attribute("src")
    assert here.focused() == title
    here.page.keyboard.press("Enter")
    large = here.page.locator("#pane img")
    assert "overlays/1.png" in large.get_attribute("src")
    here.page.locator("#swap").click()
    assert "originals/1.jpg" in large.get_attribute("src")
    assert here.page.locator("#swap").get_attribute("aria-pressed") == "true"
    assert here.focused() == "swap"
    here.page.keyboard.press("o")
    assert "overlays/1.png" in large.get_attribute("src")
    here.page.keyboard.press("Escape")
    here.page.wait_for_selector("#dialog", state="hidden")
    assert here.focused() == title


def test_a_prediction_is_searched_sorted_and_saved(visit) -> None:
    here = visit("prediction")
    first = here.titles()
    assert first[: len(HOSTILE)] == list(HOSTILE)
    here.page.select_option("#sort", "low")
    assert here.titles() == first[::-1]
    here.page.fill("#search", "line 2/")
    assert here.titles() == [title for title in first[::-1] if title.startswith("line 2/")]
    with here.page.expect_download() as download:
        here.page.locator("#save").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["path"] for row in rows] == here.titles()
    assert {row["decision"] for row in rows} <= {"defective", "normal"}
    assert all((float(row["score"]) > 20) == (row["decision"] == "defective") for row in rows)


def test_a_page_of_two_thousand_images_opens(visit, tmp_path: Path) -> None:
    here = visit(make_prediction(tmp_path, 2000, 20_000))
    assert "2000 highest scores of 20000" in here.page.locator("#partial").inner_text()
    assert 0 < here.page.locator(".card").count() < 100


# ---- the page of all runs


def test_runs_stand_side_by_side(visit) -> None:
    here = visit("runs")
    assert here.page.locator("section h2").all_inner_texts() == [
        "mvtec: the demo set",
        "mvtec: /data/a",
    ]
    table = here.page.locator("table.sortable:visible").last
    best = table.locator("tbody tr").evaluate_all(
        """rows => rows.map((row) => {
          const values = Array.from(row.cells).slice(1).map((cell) => Number(cell.dataset.value));
          const best = Array.from(row.cells).slice(1).map((cell) => cell.className === "best");
          return values.every((value, i) => best[i] === (value === Math.max(...values)));
        })"""
    )
    assert best == [True, True]
    here.page.select_option("#metric", "false_alarms")
    here.page.select_option("#against", "b")
    table = here.page.locator("table.sortable:visible").last
    for row in table.locator("tbody tr").all():
        cells = row.locator("td").all()
        values = [float(cell.get_attribute("data-value")) for cell in cells]
        marked = [cell.get_attribute("class") == "best" for cell in cells]
        assert marked == [value == min(values) for value in values]
        for cell, value in zip(cells, values, strict=True):
            shown = cell.locator(".difference").all_inner_texts()
            difference = f"{value - values[0]:+.3f}"
            if float(difference) == 0:
                difference = "0.000"
            difference = difference.replace("-", "\u2212")
            assert shown == ([] if cell == cells[0] else [difference])
    assert here.hash == "#metric=false_alarms&against=b"
    here.page.reload()
    assert here.page.input_value("#against") == "b"
    here.page.go_back()
    assert here.page.input_value("#metric") == "false_alarms"
    assert here.page.input_value("#against") == ""


def test_what_differs_between_runs_is_named(visit) -> None:
    here = visit("runs")
    here.page.get_by_text("What differs").click()
    assert here.page.locator("details table tbody th").all_inner_texts() == ["seed"]
