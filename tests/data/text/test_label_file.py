"""Files that list names: a line is a name for every verb, and what is no such list is told by what it is."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.data.text.label_files import listed, shard, told
from tests.tiny import VIT, WORDS, pictures, tiny_lit, tiny_model
from vitsmith.cli.main import app
from vitsmith.data.sets.shards.read import read_shards
from vitsmith.data.text.label_file import parse_entries, parse_templates, read_class_names, read_entries, split_lines
from vitsmith.data.text.pieces import check_lines
from vitsmith.data.text.prompts import named_templates, read_templates
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import DatasetError, InputError
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.labels import with_labels
from vitsmith.weights.load import load
from vitsmith.weights.save import save
from vitsmith.zeroshot.labels import read_word_file, read_words

NAMES = ("ant", "bee", "cat", "dog", "eel")


# --- lines -----------------------------------------------------------------------------------------------------------


def test_only_line_feeds_and_carriage_returns_end_a_line() -> None:
    others = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    assert split_lines(f"a{others}b\nc\r\nd\re\n") == [f"a{others}b", "c", "d", "e"]
    assert split_lines("") == [] and split_lines("\n") == [""] and split_lines("a\n\n") == ["a", ""]


@pytest.mark.parametrize("odd", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_character_in_a_name_shifts_no_other_name(tmp_path: Path, odd: str) -> None:
    names = ("ant", f"be{odd}e", "cat")
    assert read_class_names(listed(tmp_path, "\n".join(names))) == names
    assert tuple(entry.name for entry in read_entries(tmp_path / "names.txt")) == names


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_ends_of_lines_and_of_the_file_are_no_names(tmp_path: Path, end: str, mark: str, last: str) -> None:
    text = f"{mark}# five animals{end}{end.join(f' {name}  ' for name in NAMES)}{last}"
    assert read_class_names(listed(tmp_path, text)) == NAMES


def test_a_byte_order_mark_in_the_middle_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = listed(tmp_path, b"ant\nbee\n" + "cat\ndog\n".encode("utf-8-sig"))
    assert read_class_names(path) == NAMES[:4]


def test_quotes_are_those_of_csv(tmp_path: Path) -> None:
    path = listed(tmp_path, '"tench, Tinca"\n"#1 mug"\n"5"" disk"\nrock \'n\' roll\n5" disk\ntench, Tinca\n"0 cat"')
    expected = ("tench, Tinca", "#1 mug", '5" disk', "rock 'n' roll", '5" disk', "tench, Tinca", "0 cat")
    assert read_class_names(path) == expected


@pytest.mark.parametrize("line", ['"cat', '"cat" dog', '"Weird Al" Yankovic', '"a""'])
def test_a_quote_that_does_not_fit_is_told(tmp_path: Path, line: str) -> None:
    assert "line 2: its quotes do not match" in told(lambda: read_class_names(listed(tmp_path, f"ant\n{line}\nbee\n")))


@pytest.mark.parametrize("words", ['"a\tb', 'a\t"b', '"a" b', '"a""'])
def test_a_quote_that_does_not_fit_in_the_words_is_told(tmp_path: Path, words: str) -> None:
    path = listed(tmp_path, f"ant\ncat\t{words}\nbee\n")
    assert "line 2: the quotes of its words do not match" in told(lambda: read_entries(path))


@pytest.mark.parametrize("line", ['""', '" "', "\twords of nothing"])
def test_an_empty_name_is_told(tmp_path: Path, line: str) -> None:
    assert "line 2: the name is empty" in told(lambda: read_class_names(listed(tmp_path, f"ant\n{line}\nbee\n")))


def test_words_behind_a_tab(tmp_path: Path) -> None:
    path = listed(tmp_path, 'n1\ta cat, "indoors"\n\nn2\t"a dog, outdoors"\n"a\tb"\tc\nplain\t\n0\tthe digit 0\n')
    words = read_word_file(str(path))
    assert words.names == ("n1", "n2", "a\tb", "plain", "0")
    assert words.words == ('a cat, "indoors"', "a dog, outdoors", "c", "plain", "the digit 0")
    path = listed(tmp_path, "ant\ta red ant\nbee\n")
    assert read_class_names(path) == ("ant", "bee")


@pytest.mark.parametrize("blank", ["\n", " \t \n", "\x0c\n", "\u2028\n", "\ufeff\n"])
def test_a_blank_line_is_refused_where_its_number_is_that_of_a_class(tmp_path: Path, blank: str) -> None:
    path = listed(tmp_path, f"ant\n{blank}bee\n{blank}cat\n")
    assert "has a blank line (line 2 and 1 more)" in told(lambda: read_class_names(path))
    assert [entry.name for entry in read_entries(path)] == ["ant", "bee", "cat"]
    assert [entry.line for entry in read_entries(path)] == [1, 3, 5]


# --- what is no such list --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('["ant", "bee"]', "is JSON"),
        ('{"0": "ant", "1": "bee"}', "is JSON"),
        ('{\n "id2label": {"0": "ant"}\n}', "is JSON"),
        ('{"id": 0, "name": "ant"}\n{"id": 1, "name": "bee"}\n', "is JSON"),
        ("[" * 200_000, "is JSON"),
        ("['ant',\n 'bee']", "is a list of Python or JSON"),
        ("{0: 'tench, Tinca tinca',\n 1: 'goldfish',\n 2: 'shark'}", "has a number before each name"),
        ("0 ant\n1 bee\n2 cat", "has a number before each name"),
        ("1. ant\n2. bee", "has a number before each name"),
        ("0: ant\n1: bee", "has a number before each name"),
        ("0,ant\n1,bee\n", "has a number before each name"),
        ("0\tant\n1\tbee\n", "has a number before each name"),
        ("12;ant\n7;bee\n90;cat\n", "has a number before each name"),
        ("id,name\n0,ant\n1,bee\n", "has a number before each name"),
        ("names:\n  0: ant\n  1: bee\n", "has a number before each name"),
        ("ant,0\nbee,1\n", "has a number behind each name"),
        ("name\tid\nant\t2\nbee\t1\n", "has a number behind each name"),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "has a WordNet number before each name"),
        ("- ant\n- bee\n", "has a list mark before each name"),
        ("<!DOCTYPE html>\n<html>", "is an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is a Git LFS pointer"),
        ("", "holds no class names"),
        ("# nothing\n\n", "holds no class names"),
    ],
)
def test_another_kind_of_file_is_called_what_it_is(tmp_path: Path, text: str, what: str) -> None:
    path = listed(tmp_path, text)
    assert f"{path} {what}" in told(lambda: read_class_names(path))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name\nant\nbee\n", "is a table with a heading, 'name'"),
        ("ant,6 legs\nbee,6 legs\n", "is a table with several columns (as 'ant,6 legs')"),
    ],
)
def test_a_table_is_no_list_of_names(tmp_path: Path, text: str, what: str) -> None:
    assert what in told(lambda: read_class_names(listed(tmp_path, text, "names.csv")))
    assert read_class_names(listed(tmp_path, 'ant\n"bee, honey"\n', "names.csv")) == ("ant", "bee, honey")


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1", "2"),
        ("10 euro", "20 euro", "50 euro"),
        ("3.5 inch disk", "8 inch disk"),
        ("n01440764", "n01443537"),
        ("[PAD]", "{x}"),
        ("label", "name"),
        ("one, 1",),
        ("1 cat",),
    ],
)
def test_names_that_look_a_little_like_something_else_are_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert read_class_names(listed(tmp_path, "\n".join(names))) == names


def test_other_encodings_are_told(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-32", "utf-16-le"):
        path = listed(tmp_path, "ant\nbee\n".encode(encoding))
        problem = told(lambda path=path: read_class_names(path))
        assert "UTF-16" in problem and "save it as UTF-8" in problem
    path = listed(tmp_path, "ant\nblé\n".encode("latin-1"))
    assert "is not UTF-8 text (byte 0xe9 in line 2; Latin-1 or Windows text?)" in told(lambda: read_class_names(path))
    path = listed(tmp_path, gzip.compress(b"ant\nbee\n"))
    assert "is a gzip archive: give a text file with class names, one on each line" in told(
        lambda: read_class_names(path)
    )
    assert "cannot read the class names in" in told(lambda: read_class_names(tmp_path))
    assert "No such file" in told(lambda: read_class_names(tmp_path / "none.txt"))


# --- who reads them --------------------------------------------------------------------------------------------------


def test_labels_of_a_model(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(VIT))
    named = with_labels(bundle, listed(tmp_path, '# of five\nant\n"bee, honey"\nc\x0cat\ndog\neel\n'))
    assert named.labels is not None and named.labels.names == ("ant", "bee, honey", "c\x0cat", "dog", "eel")
    assert "has a blank line (line 2)" in told(
        lambda: with_labels(bundle, listed(tmp_path, "ant\n\nbee\ncat\ndog\neel"))
    )
    six = listed(tmp_path, "\n".join(("background", *NAMES)))
    assert "names 6 classes, the model has 5; the first, 'background', is from TensorFlow's lists" in told(
        lambda: with_labels(bundle, six)
    )


def test_class_names_of_shards(tmp_path: Path) -> None:
    path = shard(tmp_path, ["0", "2", "1"])
    listed(tmp_path, '# three\nant\n"bee, honey"\nc\u2028at\n', "classes.txt")
    samples = read_shards([path])
    assert samples.classes == ("ant", "bee, honey", "c\u2028at") and samples.labels.tolist() == [0, 2, 1]
    listed(tmp_path, "ant\n\nbee\ncat\n", "classes.txt")
    assert "has a blank line (line 2)" in told(lambda: read_shards([path]), DatasetError)
    listed(tmp_path, '{"0": "ant", "1": "bee", "2": "cat"}', "classes.txt")
    assert "is JSON" in told(lambda: read_shards([path]), DatasetError)


def test_labels_in_words() -> None:
    assert read_words('cat, "a cat, indoors",dog, #1 mug').names == ("cat", "a cat, indoors", "dog", "#1 mug")
    assert read_words('5" disk').names == ('5" disk',)
    assert read_words('"AC/DC"').names == ("AC/DC",) and read_words("AC/DC,cat").names == ("AC/DC", "cat")
    assert "put a label that looks like a path in quotes" in told(lambda: read_words("AC/DC"))
    assert "is not a list" in told(lambda: read_words('cat, "dog'))
    assert "'indoors\"' ends with a quote and does not begin with one" in told(lambda: read_words('a cat, indoors"'))
    assert read_words('5", 3.5", dog "rex"').names == ('5"', '3.5"', 'dog "rex"')
    assert "has a line break" in told(lambda: read_words("cat\ndog"))
    assert "has a line break" in told(lambda: read_words("some/cat\ndog.txt"))
    assert "not Unicode text" in told(lambda: read_words("cat,\udce9"))


def test_labels_in_words_of_several_lists_are_put_together(tmp_path: Path) -> None:
    path = listed(tmp_path, "# pets\nred panda\n\ngiraffe\n")
    assert read_words(["cat,dog", str(path), "eel"]).names == ("cat", "dog", "red panda", "giraffe", "eel")
    assert "`labels` has the same label twice ('cat')" in told(lambda: read_words(["cat", "dog,cat"]))
    with_comma = listed(tmp_path, "ant\nbee\n", "a,b.txt")
    assert read_words(str(with_comma)).names == read_word_file(str(with_comma)).names == ("ant", "bee")


def test_zeroshot_takes_labels_more_than_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    save(tiny_lit(), tmp_path / "lit")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    arguments = ["zeroshot", str(tmp_path / "lit"), str(tmp_path / "a.png"), "--templates", "{}", "--top", "3"]
    both = CliRunner().invoke(app, [*arguments, "--labels", "red", "--labels", "blue,cat", "--json"])
    one = CliRunner().invoke(app, [*arguments, "--labels", "red,blue,cat", "--json"])
    assert both.exit_code == 0 and both.stdout == one.stdout and both.stdout.count('"label"') == 3
    listed(tmp_path, "# one\n{}\n", "prompts.txt")
    from_file = [*arguments[:3], "--templates-file", str(tmp_path / "prompts.txt"), "--top", "3"]
    assert CliRunner().invoke(app, [*from_file, "--labels", "red,blue,cat", "--json"]).stdout == one.stdout


def test_templates(tmp_path: Path) -> None:
    path = listed(tmp_path, '# mine\n{}\n\n"a photo, of a {}."\nan {}\u2028indeed\n')
    assert read_templates(str(path)) == ("{}", "a photo, of a {}.", "an {}\u2028indeed")
    assert read_templates(str(listed(tmp_path, "{}\n"))) == ("{}",)
    assert parse_templates("a\t{}\n#b", "here") == ["a {}"]
    assert len(named_templates("clip")) == 80 and len(named_templates("lit")) == 8
    assert "cannot read the templates" not in told(lambda: read_templates(str(listed(tmp_path, b"\xff\xfe{\0"))))


def test_pieces_of_a_vocabulary_keep_their_numbers() -> None:
    text = tiny_lit().text
    assert text is not None
    plain = "\n".join(WORDS).encode()
    for other in (b"\xef\xbb\xbf" + plain, plain.replace(b"\n", b"\r\n"), plain + b"\n"):
        check_lines(text.tokenizer, other)
        np.testing.assert_array_equal(Tokenizer(text, other)(["a red cat"]), Tokenizer(text, plain)(["a red cat"]))
    odd = plain.replace(b"cat", "c\u2028at".encode())
    np.testing.assert_array_equal(Tokenizer(text, odd)(["dog"]), Tokenizer(text, plain)(["dog"]))
    moved = plain.replace(b"cat", b"\ncat")
    assert "blank line (line 10)" in told(lambda: check_lines(text.tokenizer, moved))


def test_a_vocabulary_beside_a_checkpoint_is_checked(tmp_path: Path) -> None:
    save(tiny_lit(released=True), tmp_path / "lit.npz", format="npz")
    vocabulary = (tmp_path / "lit.txt").read_bytes()
    assert load(tmp_path / "lit.npz").vocabulary == vocabulary
    (tmp_path / "lit.txt").write_bytes(vocabulary.replace(b"cat", b"\ncat"))
    assert "blank line (line 10)" in told(lambda: load(tmp_path / "lit.npz"))


def test_paths_on_standard_input(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a\x0cb.png", "# c.png", " d .png", "e\u2028.png")]
    for path in paths:
        Image.fromarray(pictures(1)[0]).save(path)
    save(Bundle.of(tiny_model(VIT)), tmp_path / "model")
    given = "\ufeff" + "\r\n".join(map(str, paths)) + "\r\n"
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "model"), "-", "--csv"], input=given)
    assert done.exit_code == 0, done.output
    assert [line.split(",")[0] for line in done.stdout.split("\n")[1:-1]] == list(map(str, paths))


def test_parse_entries_names_where_it_reads() -> None:
    assert told(lambda: parse_entries('"', "here")).startswith("here, line 1: its quotes do not match")


@pytest.mark.parametrize("verb", ["predict", "zeroshot", "evaluate", "export"])
def test_words_are_labels_and_a_file_is_a_file_of_labels(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").touch()
    names = listed(tmp_path, "ant\nbee\n").name
    rest = {"evaluate": ["--data", "digits"], "export": ["--to", "web"]}.get(verb, ["x.png"])

    def refused(*labels: str) -> str:
        result = CliRunner().invoke(app, [verb, "nowhere", *rest, *labels], standalone_mode=False)
        assert isinstance(result.exception, InputError)
        return str(result.exception)

    assert refused("--labels", names) == f"--labels '{names}' is a file: give it with --labels-file"
    assert "a label that looks like a path stands in quotes" in refused("--labels", "AC/DC")
    assert "both give the labels" in refused("--labels", "ant", "--labels-file", names)
    assert "'nowhere' is neither a file" in refused("--labels", "ant,bee")


def test_names_of_classes_are_words_or_a_file(tmp_path: Path) -> None:
    save(tiny_model(VIT), tmp_path / "model")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    file = listed(tmp_path, "\n".join(NAMES))
    arguments = ["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--top", "2", "--json"]
    words = CliRunner().invoke(app, [*arguments, "--labels", ",".join(NAMES)])
    listed_ones = CliRunner().invoke(app, [*arguments, "--labels-file", str(file)])
    assert words.exit_code == 0 and words.stdout == listed_ones.stdout and any(name in words.stdout for name in NAMES)
    assert "`labels` names 3 classes" in str(CliRunner().invoke(app, [*arguments, "--labels", "a,b,c"]).exception)
