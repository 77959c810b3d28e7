"""The page of a run: what a browser would read out of it, seen through the standard parser."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from helpers import class_record, image_record

from utils.report.page import render_page

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
COLUMNS = ["image_auroc", "image_f1", "pro", "n_train", "n_test", "seconds"]


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


def record(name="bottle", images=(), notes=()):
    return class_record(name, images=tuple(images), notes=tuple(notes))


def row(name="bottle", **values):
    return {"class": name, **dict.fromkeys(COLUMNS), **values}


def read(title="Run", warnings=(), facts=None, columns=COLUMNS, rows=(), records=(), links=()):
    page = render_page(title, warnings, facts or {}, columns, rows, records, links)
    page.encode("utf-8")
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return page, reader


def data(page):
    start = page.index(">", page.index('<script type="application/json"')) + 1
    return json.loads(page[start : page.index("</script>", start)])


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
        "columns": [name],
        "rows": [{"class": name, name: name}, {"class": name, "mean": True}],
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

    start = page.index(">", page.index('<script type="application/json"')) + 1
    text = page[start : page.index("</script>", start)]
    assert text.isascii()
    assert not set("<>&") & set(text)


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
    values = {
        "image_auroc": 0.99849,
        "image_f1": 1.0,
        "pro": 0,
        "n_train": 209,
        "n_test": 83.5,
        "seconds": 12.345,
    }
    _, reader = read(rows=[row(**values)])

    assert reader.rows[1] == ["bottle", "0.998", "1.000", "0", "209", "83.5", "12.3"]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_missing_number_is_a_dash(value):
    _, reader = read(rows=[row(image_auroc=value)])

    assert reader.rows[1] == ["bottle"] + ["\u2013"] * len(COLUMNS)
    assert not any("data-value" in attrs for _, attrs in reader.tags)


def test_absent_column_is_a_dash():
    _, reader = read(rows=[{"class": "bottle"}])

    assert reader.rows[1][1:] == ["\u2013"] * len(COLUMNS)


def test_sorting_has_the_number_in_full():
    _, reader = read(columns=["pro"], rows=[row(pro=0.99849)])

    assert [a["data-value"] for tag, a in reader.tags if tag == "td"] == ["0.99849"]


def test_numpy_numbers_are_taken():
    numpy = pytest.importorskip("numpy")
    values = {"pro": numpy.float32(0.5), "n_train": numpy.int64(7)}
    scored = image(label=1, score=numpy.float32(2.5), misranked=numpy.float64(0.5))
    page, reader = read(rows=[row(**values)], records=[record(images=[scored])])

    assert reader.rows[1][3:5] == ["0.500", "7"]
    (one,) = data(page)[0]["images"]
    assert (one["label"], one["score"], one["misranked"]) == (1, 2.5, 0.5)


def test_means_are_the_foot_of_the_table():
    means = [row(name, mean=True, label=f"mean of {name}") for name in ("textures", "all")]
    rows = [row("bottle"), row("carpet"), *means]
    page, reader = read(rows=rows)

    names = [cells[0] for cells in reader.rows[1:]]
    assert names == ["bottle", "carpet", "mean of textures", "mean of all"]
    foot = page[page.index("<tfoot>") : page.index("</tfoot>")]
    assert foot.count("<tr>") == 2 and "bottle" not in foot


def test_sums_in_the_foot_are_called_sums():
    _, reader = read(rows=[row("all", mean=True, n_train=60, seconds=5.6)])

    assert reader.rows[1][4:] == ["60", "\u2013", "5.6"]
    assert any(
        "image counts and seconds are summed" in " ".join(t.split()) for t in reader.text["p"]
    )


def test_row_leads_to_the_images_of_its_class():
    rows = [row("carpet"), row("bottle"), row("unknown"), row("bottle", mean=True)]
    _, reader = read(rows=rows, records=[record("bottle"), record("carpet")])

    heads = [a for tag, a in reader.tags if tag == "th" and a.get("scope") == "row"]
    assert [a.get("data-class") for a in heads] == ["1", "0", None, None]


def test_f1_is_marked_as_oracle():
    _, reader = read(columns=["image_auroc", "image_f1", "pixel_f1", "pro"])

    assert ["oracle" in head for head in reader.rows[0][1:]] == [False, True, True, False]
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


def test_score_that_is_not_finite_keeps_the_data_readable():
    page, _ = read(records=[record(images=[image(score=float("nan")), image(score=1e999)])])

    assert [one["score"] for one in data(page)[0]["images"]] == [None, None]


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
