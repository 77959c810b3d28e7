"""The pages: what a browser would read out of them, seen through the standard parser."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import class_record, image_record

from datasets.layouts.mvtec import COUNTS, TEXTURES
from utils.cli.predict_options import parse_predict_options
from utils.cli.reproduce_options import parse_reproduce_options
from utils.cli.run_options import parse_run_options
from utils.evaluation.class_record import ImageThreshold
from utils.report.command import command_line
from utils.report.figures import panel_boxes
from utils.report.gallery import GalleryImage
from utils.report.key_numbers import key_numbers
from utils.report.prediction_page import render_prediction_page
from utils.report.rows import COLUMNS
from utils.report.run_page import render_run_page
from utils.report.runs_page import write_runs_page

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
        if tag in {"meta", "link", "img", "input", "path"}:
            return
        self.open.append(tag)
        self.text.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

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


def record(name="bottle", images=(), notes=(), n_train=10, seconds=1.25, threshold=None, **metrics):
    if threshold is not None:
        images = [replace(one, is_defective=one.score > threshold.value) for one in images]
    return class_record(
        name,
        images=tuple(images),
        notes=tuple(notes),
        n_train=n_train,
        seconds=seconds,
        image_threshold=threshold,
        metrics=class_record().metrics | metrics,
    )


def read(title="Run", warnings=(), facts=None, records=(), links=(), crop=CROP, command="python x"):
    crops = {record.class_name: crop for record in records}
    return parsed(render_run_page(title, warnings, command, facts or {}, records, links, crops))


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
        "command": name,
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
    assert one["picture"] == f"figures/{name}"


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
    assert reader.text["code"] == [name]
    assert reader.rows[1][0] == name
    assert name in reader.text["dt"] and name in reader.text["dd"]


def test_text_like_a_placeholder_stays():
    _, reader = read(title="{{warnings}}", warnings=["{{title}}"], facts={"{{data}}": "{{x}}"})

    assert reader.text["h1"] == ["{{warnings}}"]
    assert reader.text["li"][0] == "{{title}}"
    assert (reader.text["dt"], reader.text["dd"]) == (["{{data}}"], ["{{x}}"])


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

    assert reader.text["li"][:2] == ["UNTRAINED WEIGHTS", "FEW IMAGES"]
    assert page.index("UNTRAINED WEIGHTS") < page.index("<h1>")


def test_notices_name_their_class():
    _, reader = read(records=[record("carpet", notes=["a mask is missing"]), record("tile")])

    assert "carpet: a mask is missing" in reader.text["li"]


def test_facts_are_written_as_a_reader_would():
    _, reader = read(facts={"rd_version": None, "layers": ["a", "b"], "is_it": True})

    assert reader.text["dt"] == ["rd version", "layers", "is it"]
    assert reader.text["dd"] == ["\u2013", "a, b", "yes"]


@pytest.mark.parametrize("crop", [56, 224, 800])
def test_panels_have_their_places_on_the_page(crop):
    page, _ = read(crop=crop, records=[record()])

    boxes = panel_boxes(crop)
    panels = json.loads(embedded(page))["classes"][0]["panels"]
    assert (panels["side"], panels["top"], panels["width"]) == (boxes.side, boxes.top, boxes.width)
    assert panels["lefts"] == list(boxes.lefts)


def test_page_refers_to_nothing_outside_its_folder():
    curves = dict.fromkeys(("image_roc", "pixel_roc", "pro"), ([0.0, 1.0], [0.0, 1.0]))
    drawn = replace(record(image_auroc=0.5, pixel_auroc=0.5, pro=0.5), curves=curves)
    page, reader = read(records=[drawn], links=["results.csv", "results.json"])

    for word in ("https:", "//cdn", "@import", "url("):
        assert word not in page
    assert page.count("http:") == page.count("http://www.w3.org/2000/svg")
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
    assert len(reader.text["noscript"]) == 1
    assert any(attrs.get("name") == "viewport" for _, attrs in reader.tags)


def test_ids_are_unique_and_links_point_somewhere():
    _, reader = read()

    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in reader.tags if a.get("href", "").startswith("#")}
    assert {one for one in wanted if "=" not in one} <= set(ids)


# Key numbers


def tiles(records, run_name="resnet18_rd100", reason=None):
    return {tile.title: tile for tile in key_numbers(records, run_name, reason)}


def counted(name, n_missed, n_false, rate=0.01):
    images = [image(f"{i}.png", "x", 1, 1.0 if i < n_missed else 3.0) for i in range(5)]
    images += [image(f"{i}.png", "good", 0, 3.0 if i < n_false else 2.0) for i in range(4)]
    threshold = ImageThreshold(2.0, max(rate, 0.01), 0.01)
    return record(name, images, threshold=threshold, pixel_auroc=0.9)


def test_key_numbers_count_what_the_threshold_decides():
    shown = tiles([counted("bottle", 2, 1), counted("carpet", 1, 0)])

    assert (shown["Defects found"].text, shown["Defects found"].link) == ("7 of 10", "3 missed")
    assert (shown["False alarms"].text, shown["False alarms"].show) == ("1 of 8", "false")
    assert shown["False alarms"].lines[-1] == "at a false alarm rate of 1 %"


def test_a_rate_that_was_not_kept_is_said():
    line = tiles([counted("a", 0, 0, 0.0526), counted("b", 0, 0, 0.1)])["False alarms"].lines[-1]
    assert line == "at a false alarm rate of 5.26 to 10 % (1 % asked for)"


def test_without_a_threshold_there_are_no_counts():
    assert tiles([record("bottle", [image()])])["Detections"].text == "\u2013"


def of_paper(*names):
    """Records with the numbers of images that MVTec AD has."""
    for name in names:
        n_train, n_test = COUNTS[name]
        yield replace(counted(name, 0, 0), n_train=n_train, n_test=n_test)


def test_group_means_and_the_published_number():
    shown = tiles([*of_paper(*TEXTURES, "bottle")])["Pixel AUROC"]
    assert shown.text == "0.900"
    assert shown.lines[0] == "textures 0.900"
    assert shown.lines[1].startswith("the paper 0.96") and "same classes" in shown.lines[1]
    assert tiles([*of_paper(*TEXTURES)])["Pixel AUROC"].lines[0].startswith("the paper 0.955")
    every = tiles([*of_paper(*COUNTS)])["Pixel AUROC"].lines
    assert every == ("textures 0.900", "objects 0.900", "the paper 0.967 (-0.067)")
    assert tiles([*of_paper("bottle")])["Pixel AUROC"].lines == ("the paper 0.981 (-0.081)",)
    assert tiles([counted("bottle", 0, 0)])["Pixel AUROC"].lines == ()  # only called so
    assert tiles([counted("mine", 0, 0)])["Pixel AUROC"].lines == ()
    assert tiles([*of_paper("bottle")], reason="drawn")["Pixel AUROC"].lines == ()


# The command line


def test_a_command_line_is_read_back_as_the_same_options(tmp_path):
    argv = ["--data_path", "/a b/$x", "--classes", "a'b", "c", "--figures", "none"]
    argv += ["--seeds", "1", "2"]
    options = parse_run_options("resnet18", [*argv, f"--save_path={tmp_path}", "--layers=layer1"])
    words = shlex.split(command_line("main_resnet.py", options))
    assert words[:2] == ["python", "main_resnet.py"]
    assert parse_run_options("resnet18", words[2:]) == options
    demo = parse_run_options("resnet18", ["--figures", "3", "--metrics", "pro", "image_ap"])
    assert parse_run_options("resnet18", shlex.split(command_line("x", demo))[2:]) == demo
    judged = parse_predict_options(["--model=-m", "--input", "a", "b", "--save_path=c", "--npy"])
    assert parse_predict_options(shlex.split(command_line("x", judged))[2:]) == judged
    tables = [
        "--data_path=a",
        "--weights",
        "resnet18=f",
        "--backbones",
        "resnet18",
        "efficientnet_b5",
    ]
    made = parse_reproduce_options(tables)
    assert parse_reproduce_options(shlex.split(command_line("x", made))[2:]) == made


# The page of a prediction

FACTS = {
    "n_judged": 3,
    "n_defective": 1,
    "n_failed": 0,
    "image_threshold": 2.0,
    "false_alarm_rate": 0.01,
    "requested_false_alarm_rate": 0.01,
}


def read_prediction(images, title="Model", warnings=(), **facts):
    return parsed(render_prediction_page(title, warnings, "python x", FACTS | facts, images))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_on_the_page_of_a_prediction(name):
    def page_of(name):
        images = [GalleryImage(name, 2.5, 0.25, picture=f"overlays/{name}.png")]
        return read_prediction(images, name, [name], **{"a fact": name})

    plain, hostile = page_of("plain"), page_of(name)
    assert plain[1].tags == hostile[1].tags
    assert hostile[1].text["h1"] == [name.encode("utf-8", "backslashreplace").decode()]
    (one,) = data(hostile[0])[0]["images"]
    assert (one["path"], one["picture"]) == (name, f"overlays/{name}.png")


def test_a_prediction_says_how_many_of_all_it_shows():
    page, reader = read_prediction([GalleryImage("a.png", 12.3, 0.005)], n_failed=2)

    assert "1 highest scores of 3 images judged" in page
    shown = reader.text["p"]
    assert {"Images judged", "3", "Defective", "1", "Image threshold", "2"} <= set(shown)
    assert "see failed.csv" in shown
    assert "highest scores of" not in read_prediction([GalleryImage("a", 1, 1)], n_judged=1)[0]


def test_the_rate_that_was_judged_by_is_said():
    _, reader = read_prediction([], false_alarm_rate=0.0526)

    assert "at a false alarm rate of 5.26 % (1 % asked for)" in reader.text["p"]


def test_a_prediction_without_thresholds_counts_no_defective_images():
    page, reader = read_prediction([], n_defective=None, image_threshold=None)

    assert "the model has no threshold" in reader.text["p"]
    assert data(page)[0]["threshold"] is None


# The page of all runs


def test_a_page_of_something_else_is_left_alone(tmp_path: Path):
    path = tmp_path / "index.html"
    path.write_text("<title>mine</title>")
    assert not write_runs_page(tmp_path)
    assert path.read_text() == "<title>mine</title>"
    path.unlink()
    assert write_runs_page(tmp_path)
    assert write_runs_page(tmp_path)
    outside = tmp_path / "outside.html"
    path.replace(outside)
    path.symlink_to(outside)
    assert not write_runs_page(tmp_path)
    path.unlink()
    path.mkdir()
    assert not write_runs_page(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    assert not write_runs_page(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[" * 10**5, "[]", "3", "{}", '{"settings": {}}', '{"settings": null}']
)
def test_what_is_no_run_is_left_out(content: str, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/results.json").write_text(content)
    assert write_runs_page(tmp_path)
    assert "0 runs" in (tmp_path / "index.html").read_text()
