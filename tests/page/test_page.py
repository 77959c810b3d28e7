"""The pages: what a browser would read out of them, seen through the standard parser."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from helpers import class_record, image_record

from datasets.layouts.mvtec import COUNTS, TEXTURES
from utils.report.figures import figure_size
from utils.report.prediction_page import PredictionRow, render_prediction_page
from utils.report.rows import COLUMNS
from utils.report.run_page import render_run_page

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\"'><b onclick=alert(1)>",
    "a b#1%20?&amp;.png",
    "line\nbreak \u2028 \u2029.png",
    "ünï 日本 \U0001f600.png",
    "byte\udcff.png",
    "{{title}} {{data}} {{missing}} \\1 \\g<0>",
]
CROP = 224


class Reader(HTMLParser):
    """Collect elements, their texts and the cells of each table row."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in {"meta", "link", "img", "input"}:
            return
        self.open.append(tag)
        self.text.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements are not nested"

    def handle_data(self, data):
        for tag in set(self.open):
            self.text[tag][-1] += data
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def image(name="000.png", defect="good", label=0, score=1.5, misranked=0.0, figure=None):
    return image_record(
        path=f"test/{defect}/{name}",
        defect=defect,
        label=label,
        score=score,
        misranked=misranked,
        figure=figure,
    )


def record(name="bottle", images=(), notes=(), n_train=10, seconds=1.25, **metrics):
    return class_record(
        name,
        images=tuple(images),
        notes=tuple(notes),
        n_train=n_train,
        seconds=seconds,
        metrics=class_record().metrics | metrics,
    )


def read(title="Run", warnings=(), facts=None, records=(), links=(), crop=CROP):
    return parsed(render_run_page(title, warnings, facts or {}, records, links, crop))


def parsed(page):
    page.encode("utf-8")
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return page, reader


def embedded(page):
    start = page.index(">", page.index('<script type="application/json"')) + 1
    return page[start : page.index("</script>", start)]


def data(page):
    return json.loads(embedded(page))["classes"]


def cells(reader, row):
    """Return the texts of a row of the table by column."""
    return dict(zip(["class", *COLUMNS], reader.rows[row], strict=True))


def shape(reader):
    """Return the elements without the attributes that are there to carry a name."""
    carriers = {"href", "data-value"}
    return [(tag, sorted(set(attrs) - carriers)) for tag, attrs in reader.tags]


def everywhere(name):
    """Return arguments that hold `name` wherever text comes from outside."""
    return {
        "title": name,
        "warnings": [name],
        "facts": {name: name},
        "records": [record(name, [image(name, name, 1, figure=f"figures/{name}")], [name])],
        "links": [name],
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_add_no_markup(name):
    _, plain = read(**everywhere("plain"))
    _, hostile = read(**everywhere(name))

    assert shape(hostile) == shape(plain)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_back_from_the_data(name):
    page, _ = read(**everywhere(name))

    (group,) = data(page)
    (one,) = group["images"]
    assert group["name"] == name
    assert one["path"] == f"test/{name}/{name}"
    assert one["defect"] == name
    assert one["figure"] == f"figures/{name}"


@pytest.mark.parametrize("name", HOSTILE)
def test_data_holds_no_character_that_ends_it(name):
    page, _ = read(**everywhere(name))

    assert embedded(page).isascii()
    assert not set("<>&") & set(embedded(page))


def test_names_are_shown_as_they_are():
    name = HOSTILE[0]
    _, reader = read(**everywhere(name))

    assert reader.text["title"] == [name]
    assert reader.text["h1"] == [name]
    assert reader.rows[1][0] == name
    assert name in reader.text["dt"] and name in reader.text["dd"]


def test_text_like_a_placeholder_stays():
    _, reader = read(title="{{warnings}}", warnings=["{{title}}"], facts={"{{data}}": "{{x}}"})

    assert reader.text["h1"] == ["{{warnings}}"]
    assert reader.text["li"] == ["{{title}}"]
    assert (reader.text["dt"], reader.text["dd"]) == (["{{data}}"], ["{{x}}"])


def test_no_placeholder_is_left():
    page, _ = read()

    assert "{{" not in page and "}}" not in page


def test_undecodable_name_becomes_its_byte_in_an_address():
    _, reader = read(links=["a b/\udcff#.csv"])

    assert "a%20b/%FF%23.csv" in [attrs.get("href") for _, attrs in reader.tags]


def test_scheme_in_a_file_name_is_no_scheme():
    _, reader = read(links=["javascript:alert(1)"])

    assert not any((a.get("href") or "").startswith("javascript:") for _, a in reader.tags)


def test_numbers_of_the_table():
    _, reader = read(records=[record(image_auroc=0.99849, image_f1=1.0, n_train=9, seconds=2.345)])

    shown = cells(reader, 1)
    assert shown.items() >= {"image_auroc": "0.998", "image_f1": "1.000", "pro": "\u2013"}.items()
    assert (shown["n_train"], shown["seconds"]) == ("9", "2.3")


def test_sorting_has_the_number_in_full_and_none_for_a_dash():
    _, reader = read(records=[record(pro=0.99849)])

    values = [attrs.get("data-value") for tag, attrs in reader.tags if tag == "td"]
    shown = dict(zip(COLUMNS, values[: len(COLUMNS)], strict=True))
    assert (shown["pro"], shown["n_train"], shown["image_ap"]) == ("0.99849", "10", None)


def test_means_are_the_foot_of_the_table():
    counts = {name: COUNTS[name] for name in (*TEXTURES, "bottle")}
    records = [replace(record(name, n_train=n), n_test=m) for name, (n, m) in counts.items()]
    page, reader = read(records=records)

    names = [row[0] for row in reader.rows[1:]]
    assert names == [*counts, "mean of 5 textures", "mean of 6 classes"]
    foot = page[page.index("<tfoot>") : page.index("</tfoot>")]
    assert foot.count("<tr>") == 2 and "bottle" not in foot


def test_sums_in_the_foot_are_called_sums():
    _, reader = read(records=[record("a", n_train=20), record("b", n_train=40, seconds=4.35)])

    shown = cells(reader, 3)
    assert (shown["n_train"], shown["seconds"]) == ("60", "5.6")
    assert any(
        "image counts and seconds are summed" in " ".join(t.split()) for t in reader.text["p"]
    )


def test_row_leads_to_the_images_of_its_class():
    page, reader = read(records=[record("carpet"), record("all")])

    heads = [a for tag, a in reader.tags if tag == "th" and a.get("scope") == "row"]
    assert [a.get("data-class") for a in heads] == ["0", "1", None]
    assert [group["name"] for group in data(page)] == ["carpet", "all"]


def test_f1_is_marked_as_oracle():
    _, reader = read()

    marked = [
        name for name, head in zip(COLUMNS, reader.rows[0][1:], strict=True) if "oracle" in head
    ]
    assert marked == ["image_f1", "pixel_f1"]
    assert any("chosen on the test set itself" in " ".join(t.split()) for t in reader.text["p"])


def test_warnings_come_first():
    page, reader = read(title="Run", warnings=["UNTRAINED WEIGHTS", "FEW IMAGES"])

    assert reader.text["li"] == ["UNTRAINED WEIGHTS", "FEW IMAGES"]
    assert page.index("UNTRAINED WEIGHTS") < page.index("<h1>")


def test_no_banner_without_warnings():
    _, reader = read()

    assert not any(attrs.get("class") == "warnings" for _, attrs in reader.tags)


def test_notes_name_their_class():
    _, reader = read(records=[record("carpet", notes=["a mask is missing"]), record("tile")])

    assert reader.text["li"] == ["carpet: a mask is missing"]


def test_facts_are_folded():
    _, reader = read(facts={"seed": "1024"})

    details = [attrs for tag, attrs in reader.tags if tag == "details"]
    assert details == [{}]
    assert (reader.text["dt"], reader.text["dd"]) == (["seed"], ["1024"])


def test_images_keep_their_numbers():
    images = [image(score=31.25, misranked=0.05), image(misranked=None, figure="figures/a.png")]
    page, _ = read(records=[record(images=images)])

    first, second = data(page)[0]["images"]
    assert (first["score"], first["misranked"], first["figure"]) == (31.25, 0.05, None)
    assert (second["misranked"], second["figure"]) == (None, "figures/a.png")
    assert (data(page)[0]["good"], data(page)[0]["defective"]) == (2, 0)


@pytest.mark.parametrize("crop", [56, 224, 800])
def test_figures_have_their_size_on_the_page(crop):
    page, _ = read(crop=crop)

    assert json.loads(embedded(page))["figure_size"] == list(figure_size(crop))
    assert "aspect-ratio: {} / {}".format(*figure_size(crop)) in page


def test_page_refers_to_nothing_outside_its_folder():
    page, reader = read(links=["results.csv", "results.json"])

    for word in ("http:", "https:", "//cdn", "@import", "url("):
        assert word not in page
    local = {"roc_curve.png", "pro_curve.png", "results.csv", "results.json", "data:,"}
    addresses = [a[key] for _, a in reader.tags for key in ("src", "href") if key in a]
    assert {address for address in addresses if not address.startswith("#")} == local


def test_data_never_becomes_markup_in_the_script():
    page, _ = read()

    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in page


def test_page_can_be_read_without_sight_or_script():
    _, reader = read()

    assert dict(reader.tags)["html"]["lang"] == "en"
    assert all(attrs.get("alt") for tag, attrs in reader.tags if tag == "img")
    assert len(reader.text["noscript"]) == 1
    assert any(attrs.get("name") == "viewport" for _, attrs in reader.tags)


def test_ids_are_unique_and_labels_point_somewhere():
    _, reader = read()

    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in reader.tags if a.get("href", "").startswith("#")}
    assert wanted <= set(ids)


FACTS = {"n_judged": 3, "n_defective": 1, "n_failed": 0, "false_alarm_rate": 0.01}


def read_prediction(rows, title="Model", warnings=(), **facts):
    return parsed(render_prediction_page(title, warnings, FACTS | facts, rows))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_on_the_page_of_a_prediction(name):
    def page_of(name):
        rows = [PredictionRow(name, 2.5, 0.25, "defective", f"overlays/{name}.png")]
        return read_prediction(rows, name, [name], **{"a fact": name})[1]

    carriers = {"src", "alt"}
    tags = [
        [(tag, sorted(set(attrs) - carriers)) for tag, attrs in page_of(shown).tags]
        for shown in ("plain", name)
    ]
    assert tags[0] == tags[1]
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert page_of(name).rows[1][0] == shown
    assert page_of(name).text["h1"] == [shown]


def test_numbers_of_a_prediction():
    rows = [
        PredictionRow("a.png", 12.3456789, 0.005, "defective", "overlays/a b.png"),
        PredictionRow("b.png", 1.5, None, "", None),
    ]
    _, reader = read_prediction(rows)

    assert reader.rows[1][:4] == ["a.png", "12.346", "0.0050", "defective"]
    assert reader.rows[2] == ["b.png", "1.5", "\u2013", "\u2013", "\u2013"]
    cells = [attrs for tag, attrs in reader.tags if tag == "td"]
    assert [cell["data-value"] for cell in cells if cell] == ["12.3456789", "0.005", "1.5", "1"]
    assert [a["src"] for tag, a in reader.tags if tag == "img"] == ["overlays/a%20b.png"]
    counts = reader.text["p"][0]
    assert counts == (
        "3 images judged; 1 defective at a false alarm rate of 0.01; "
        "this page shows the 2 highest scores, scores.csv has all."
    )


def test_a_prediction_without_thresholds_counts_no_defective_images():
    _, reader = read_prediction([], n_defective=None, n_judged=0, n_failed=2)

    assert reader.text["p"][0] == "0 images judged; 2 failed, see failed.csv."
