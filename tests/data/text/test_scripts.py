"""The scripts of vocabularies, counted from their pieces, and how the model card tells them."""

from __future__ import annotations

from tests.tiny import CONFIGS, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.data.text.scripts import count_scripts, describe_scripts
from vitsmith.weights.bundle.card import model_card


def test_a_piece_counts_for_the_script_of_its_first_letter() -> None:
    pieces = [
        "cat",
        "\u2581dog",
        "##ing",
        "é",
        "猫",
        "ネコ",
        "ねこ",
        "고양이",
        "жук",
        "3",
        "...",
        "",
        "🐱",
        "λ",
        "ಅ",
        "½",
    ]
    shares = count_scripts(pieces)
    assert {script: round(share * 11) for script, share in shares.items()} == {
        "Latin (English and others)": 4, "Han (Chinese)": 1, "Kana (Japanese)": 2, "Hangul (Korean)": 1,
        "Cyrillic (Russian and others)": 1, "Greek": 1, "Kannada": 1,
    }  # fmt: skip
    assert list(shares)[:2] == ["Latin (English and others)", "Kana (Japanese)"] and count_scripts(["1", "."]) == {}


def test_in_words() -> None:
    many = ["cat"] * 200 + ["жук"] * 10 + ["猫"]
    told = describe_scripts(count_scripts(many), bytewise=True)
    assert told == (
        "Latin (English and others) 95%, Cyrillic (Russian and others) 5%; few of Han (Chinese); none of Greek, "
        "Arabic, Hebrew, Devanagari (Hindi), Bengali, Tamil, Thai, Kana (Japanese), Hangul (Korean); other characters "
        "byte by byte (shares of its pieces: what it can spell, not how well the model knows a language)"
    )
    assert describe_scripts({}, bytewise=False).startswith("none of Latin")


def test_the_card_tells_them() -> None:
    card = model_card(tiny_lit())
    assert "- Scripts of its vocabulary: Latin (English and others) 100%; none of Cyrillic" in card
    assert "Scripts of" not in model_card(Bundle.of(tiny_model(CONFIGS["lit-bert"])))
