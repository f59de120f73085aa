"""Runs of `lit`: what is learnt, what stays locked, what is saved, and that they go on to the very same losses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors import safe_open
from typer.testing import CliRunner

from tests.tiny import CONFIGS, tiny_lit
from tests.training.lit.small_runs import COLOURS, lit_command, lit_recipe, write_pairs, write_tower
from tests.training.small_runs import logged, settings
from vitsmith.cli.lit import lit
from vitsmith.data.sets.pairs import open_pairs
from vitsmith.data.sets.samples import Samples
from vitsmith.encode import Encoder
from vitsmith.errors import ConfigError, InputError, Interrupted
from vitsmith.models.lit import LiT
from vitsmith.models.text import text_tower
from vitsmith.records import Publication
from vitsmith.runs.run import Run
from vitsmith.training.lit.captions import bytes_a_caption
from vitsmith.training.lit.embeddings import is_intact, seal
from vitsmith.training.lit.evaluation import Gallery, evaluate
from vitsmith.training.lit.run import LitTrained, lit_recipe_of, lit_to_bundle, resume_lit
from vitsmith.training.lit.towers import open_image_tower
from vitsmith.training.monitor.events import Event, LitEvaluation
from vitsmith.training.recipes.lit import TextTowerSpec
from vitsmith.training.stop import Stopped
from vitsmith.weights.load import load
from vitsmith.weights.save import save


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    return write_tower(tmp_path_factory.mktemp("tower") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "data")


def carry_out(recipe, folder: Path, on_event=lambda _: None, said: list[str] | None = None) -> LitTrained:
    with Run("lit", "test", folder) as run:
        say = said.append if said is not None else lambda _: None
        return lit_to_bundle(
            recipe, open_pairs(recipe.data, seed=recipe.run.seed), run, on_event=on_event, on_start=say
        )


def go_on(folder: Path) -> LitTrained:
    recipe = lit_recipe_of(folder)
    with Run.reopen(folder) as run:
        return resume_lit(folder, open_pairs(recipe.data, seed=recipe.run.seed), run)


def losses(trained: LitTrained) -> list[float]:
    return [done.loss for done in trained.result.history]


def at(step: int, what):
    def listen(event: Event) -> None:
        if getattr(event, "loss", None) is not None and event.step == step:
            what()

    return listen


def test_it_learns_and_leaves_a_bundle_that_says_so(tower, data, tmp_path) -> None:
    """Judged again from the bundle alone, with every similarity at once."""
    trained = carry_out(lit_recipe(tower, data, schedule={"steps": 40}), tmp_path / "run")
    final = trained.result.final
    assert np.mean(losses(trained)[-5:]) < 0.5 < 1.5 < losses(trained)[0]
    assert final.image_to_text[1] >= 0.7 and final.text_to_image[5] == 1.0

    bundle = load(tmp_path / "run" / "model")
    pairs = open_pairs(lit_recipe(tower, data).data)
    encoder = Encoder(bundle, "torch")
    images = encoder.images([pairs.val.image(index) for index in range(len(pairs.val))])
    scores = images @ encoder.texts(pairs.val.classes).T
    assert np.mean(scores.argmax(1) == pairs.val.labels) == pytest.approx(final.image_to_text[1])
    right = [pairs.val.labels[best] == text for text, best in enumerate(scores.argmax(0).tolist())]
    assert np.mean(right) == pytest.approx(final.text_to_image[1])
    found = {one.metric: one for one in bundle.measurements}
    assert found["image_to_text_recall@1"].value == final.image_to_text[1]
    assert found["text_to_image_recall@1"].low < found["text_to_image_recall@1"].value
    assert bundle.provenance.parent == str(tower)
    assert bundle.similarity.bias is None and bundle.similarity.temperature != pytest.approx(10)
    assert bundle.golden is not None and bundle.golden.texts is not None
    assert bundle.text.templates == ("a {} picture",)


def test_the_image_tower_stays_as_it_is_and_all_of_the_text_side_moves(tower, data, tmp_path) -> None:
    recipe = lit_recipe(tower, data, loss={"kind": "sigmoid"})
    before = open_image_tower(str(tower)).model.state_dict()
    bundle = carry_out(recipe, tmp_path / "run").bundle
    lit_model = bundle.model
    assert isinstance(lit_model, LiT)
    for name, tensor in lit_model.image.state_dict().items():
        assert torch.equal(tensor, before[name])
    fresh = carry_out(recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e-30})}),
                      tmp_path / "still").bundle.model  # fmt: skip
    moved = [
        name for name, one in lit_model.named_parameters() if not torch.equal(one, dict(fresh.named_parameters())[name])
    ]
    assert moved == [name for name, _ in lit_model.named_parameters() if not name.startswith("image.")]
    assert bundle.config.bias and bundle.similarity.bias != pytest.approx(-10, abs=1e-3)


def test_same_seed_gives_the_same_losses_and_another_gives_others(tower, data, tmp_path) -> None:
    runs = [
        losses(carry_out(lit_recipe(tower, data, run={"seed": seed}), tmp_path / str(index)))
        for index, seed in enumerate((0, 0, 1))
    ]
    assert runs[0] == runs[1] and runs[0] != runs[2]


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_micro_batches_and_blocks_change_rounding_only(tower, data, tmp_path, kind) -> None:
    runs = [
        losses(carry_out(lit_recipe(tower, data, loss={"kind": kind}, batch=batch), tmp_path / str(index)))
        for index, batch in enumerate(({}, {"micro": 3, "block": 3}))
    ]
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4)


def test_images_that_are_not_varied_give_what_kept_embeddings_give(tower, data, tmp_path) -> None:
    """The way over crops and the device, for which every image is read anew, against the way over the file."""
    whole = {"area": [1.0, 1.0], "aspect": [1.0, 1.0], "flip": False, "decoding": "exact"}
    kept = carry_out(lit_recipe(tower, data), tmp_path / "kept")
    varied = carry_out(lit_recipe(tower, data, augment=whole), tmp_path / "varied")
    np.testing.assert_allclose(losses(varied), losses(kept), rtol=1e-3)
    flipped = carry_out(lit_recipe(tower, data, augment=whole | {"area": [0.2, 0.5], "flip": True}), tmp_path / "other")
    assert np.abs(np.subtract(losses(flipped), losses(kept))).max() > 0.01


def test_embeddings_go_with_the_run_unless_a_folder_is_named_for_them(tower, data, tmp_path) -> None:
    carry_out(lit_recipe(tower, data), tmp_path / "run")
    assert not (tmp_path / "run" / "embeddings").exists()
    seen: list[str] = []
    for name in ("first", "second"):
        recipe = lit_recipe(tower, data, image={"store": str(tmp_path / "shared"), "kept": "float16"})
        carry_out(recipe, tmp_path / name, lambda event: seen.append(type(event).__name__))
    assert seen.count("Embedded") == 4  # beginning and end of training and held-out images, in the first run only
    assert np.load(tmp_path / "shared" / "embeddings" / "train.npy").dtype == np.float16


HARD = {
    "loss": {"kind": "sigmoid"},
    "optimizer": {"ema": 0.9},
    "batch": {"micro": 3},
    "augment": {"mixup": 0, "grade": "light1"},
}


@pytest.mark.parametrize("changes", [{}, HARD, {"optimizer": {"name": "sgd"}, "run": {"precision": "bf16"}}])
def test_a_run_that_was_killed_ends_as_if_it_had_not(tower, data, tmp_path, changes) -> None:
    whole = carry_out(lit_recipe(tower, data, **changes), tmp_path / "whole")

    def kill() -> None:
        raise KeyboardInterrupt

    every = lit_recipe(tower, data, **changes)
    every = every.model_copy(update={"run": every.run.model_copy(update={"checkpoint_every": 4})})
    folder = tmp_path / "halves"
    with pytest.raises(KeyboardInterrupt):
        carry_out(every, folder, at(7, kill))
    state = next((folder / "checkpoints").glob("step-000004/state.safetensors"))
    with safe_open(state, "pt") as opened:
        names = list(opened.keys())
    assert "model.log_temperature" in names and not any("image" in name for name in names)
    halves = go_on(folder)
    assert losses(halves) == losses(whole)
    assert logged(folder, "step", "step") == list(range(1, 13))
    assert [one.image_to_text for one in halves.result.evaluations] == [
        one.image_to_text for one in whole.result.evaluations
    ]
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "halves")]
    assert weights[0] == weights[1]
    assert not (folder / "checkpoints").exists()


def test_the_towers_of_a_run_keep_who_published_each(tower, data, tmp_path) -> None:
    image = Publication(origin="hf:timm/vit", revision="4b0f1c2", license="apache-2.0")
    text = Publication(origin="https://a.org/lit.npz", license="mit")
    save(load(tower).with_provenance(**image.model_dump()), tmp_path / "tower")
    save(tiny_lit().with_provenance(**text.model_dump()), tmp_path / "words")
    fresh = lit_recipe(tmp_path / "tower", data, schedule={"steps": 3})
    made = carry_out(fresh, tmp_path / "fresh").bundle.provenance
    assert Publication(**made.publication) == image and made.text == Publication()  # nobody published this one

    def kill() -> None:
        raise KeyboardInterrupt

    recipe = lit_recipe(tmp_path / "tower", data, run={"checkpoint_every": 2})
    recipe = recipe.model_copy(update={"text": TextTowerSpec(init=str(tmp_path / "words"))})
    with pytest.raises(KeyboardInterrupt):
        carry_out(recipe, tmp_path / "run", at(3, kill))
    shutil.rmtree(tmp_path / "words")
    made = go_on(tmp_path / "run").bundle.provenance
    assert Publication(**made.publication) == image and made.text == text
    again = lit_recipe(tower, data, schedule={"steps": 3})
    again = again.model_copy(update={"text": TextTowerSpec(init=str(tmp_path / "run" / "model"))})
    made = carry_out(again, tmp_path / "again").bundle.provenance  # the text tower of a LiT from two places
    assert Publication(**made.publication) == Publication() and made.text == text


def test_ctrl_c_saves_and_a_last_judgement_is_made_again(tower, data, tmp_path) -> None:
    whole = carry_out(lit_recipe(tower, data), tmp_path / "whole")
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped, match="stopped after 5 updates"):
        carry_out(lit_recipe(tower, data), folder, at(5, lambda: signal.raise_signal(signal.SIGINT)))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000005"]

    def kill(event: Event) -> None:
        if isinstance(event, LitEvaluation) and event.step == 12:
            raise KeyboardInterrupt

    recipe = lit_recipe_of(folder)
    with pytest.raises(KeyboardInterrupt), Run.reopen(folder) as run:
        resume_lit(folder, open_pairs(recipe.data), run, on_event=kill)
    done = go_on(folder)
    assert losses(done) == losses(whole)
    assert logged(folder, "judged", "step") == [6, 12]
    with pytest.raises(InputError, match="is complete: its bundle is"):
        go_on(folder)


def test_a_run_without_a_checkpoint_begins_with_the_embeddings_it_has(tower, data, tmp_path) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        carry_out(lit_recipe(tower, data), folder, at(3, kill))
    stamp = (folder / "embeddings" / "train.npy").stat().st_mtime_ns
    recipe = lit_recipe_of(folder)
    seen: list[int] = []
    look = at(1, lambda: seen.append((folder / "embeddings" / "train.npy").stat().st_mtime_ns))
    with Run.reopen(folder) as run:
        done = resume_lit(folder, open_pairs(recipe.data), run, on_event=look)
    assert seen == [stamp]
    assert losses(done) == losses(carry_out(lit_recipe(tower, data), tmp_path / "whole"))
    assert logged(folder, "step", "step") == list(range(1, 13))


def test_other_data_and_another_tower_are_not_resumed(tower, data, tmp_path) -> None:
    copy = write_tower(tmp_path / "tower")
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        carry_out(lit_recipe(copy, data), folder, at(5, lambda: signal.raise_signal(signal.SIGINT)))
    fewer = open_pairs(str(write_pairs(tmp_path / "fewer", 24)))
    with pytest.raises(ConfigError, match="is not the data that the run in"), Run.reopen(folder) as run:
        resume_lit(folder, fewer, run)
    write_tower(copy, seed=1)
    with pytest.raises(ConfigError, match="is not the image tower that the run began with"):
        go_on(folder)


def test_a_resumed_run_trusts_only_what_is_hashed(tower, data, tmp_path) -> None:
    whole = carry_out(lit_recipe(tower, data), tmp_path / "whole")
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        carry_out(lit_recipe(tower, data), folder, at(5, lambda: signal.raise_signal(signal.SIGINT)))
    recipe, vocabulary = folder / "recipe.json", folder / "vocabulary.txt"
    for place, edited, told in (
        (
            recipe,
            recipe.read_text().replace('"lr": 0.01', '"lr": 0.02'),
            r"optimizer\.lr: 0\.01 -> 0\.02\): restore its recipe",
        ),
        (vocabulary, vocabulary.read_text() + "more\n", "is not the vocabulary that the run began with"),
        (vocabulary, "", "is not the vocabulary of the run: it is empty"),
    ):
        before = place.read_text()
        place.write_text(edited)
        with pytest.raises(InputError, match=told):
            go_on(folder)
        place.write_text(before)
    embeddings = folder / "embeddings" / "train.npy"
    data_ = bytearray(embeddings.read_bytes())
    data_[-40] ^= 0x40  # of a vector; the checksum stands behind them
    embeddings.write_bytes(data_)
    assert [one.loss for one in go_on(folder).result.history] == [one.loss for one in whole.result.history]


def test_embeddings_on_disk_are_believed_only_whole(tmp_path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    path = tmp_path / "a.npy"
    np.save(path, vectors)
    assert is_intact(path)  # as they were written before there were checksums
    seal(path)
    assert is_intact(path) and np.array_equal(np.load(path, mmap_mode="r"), vectors)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert not is_intact(path), place
    for length in (0, 5, 100, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not is_intact(path), length


def test_two_processes_lose_what_one_does(tower, data, tmp_path) -> None:
    recipe = lit_recipe(tower, data, batch={"micro": 3}, loss={"kind": "sigmoid"})
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    options = ["--recipe", str(tmp_path / "recipe.json")]
    done = subprocess.run(
        lit_command(*options, "--out", str(tmp_path / "two"), "--json", processes=2),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone = carry_out(recipe, tmp_path / "one")
    np.testing.assert_allclose(logged(tmp_path / "two", "step", "loss"), losses(alone), rtol=1e-5)
    np.testing.assert_allclose(
        logged(tmp_path / "two", "step", "gradient_norm"),
        [done.gradient_norm for done in alone.result.history],
        rtol=1e-4,
    )
    said = json.loads(done.stdout)
    assert said["image_to_text"]["recall@1"] == alone.result.final.image_to_text[1]
    assert logged(tmp_path / "two", "step", "step") == list(range(1, 13))  # the main process alone writes


def test_a_batch_must_fit_processes_and_data(tower, data, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"batch\.size = 64 is more than the 36 training pairs"):
        carry_out(lit_recipe(tower, data, batch={"size": 64}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_captions_that_are_cut_are_counted_with_an_example(tower, data, tmp_path) -> None:
    said: list[str] = []
    trained = carry_out(lit_recipe(tower, data, text={"length": 3}), tmp_path / "run", said=said)
    assert len(said) == 1 and said == list(trained.told)
    assert said[0].startswith("6 of 12 captions are longer than the 3 tokens that are read, and are cut, such as 'a ")


def test_unreadable_images_are_left_out_and_too_many_stop_the_run(tower, tmp_path) -> None:
    table = write_pairs(tmp_path / "data")
    train = open_pairs(lit_recipe(tower, table).data).train
    (table.parent / Path(train.names[3]).name).write_bytes(b"no image")
    seen: list[str] = []
    recipe = lit_recipe(tower, table, data={"skip_unreadable": 0.1})
    trained = carry_out(recipe, tmp_path / "run", lambda event: seen.append(getattr(event, "message", "")))
    told = [message for message in seen if message]
    assert len(told) == 1 and told[0].startswith("unreadable train image left out") and "png" in told[0]
    assert trained.told[0].startswith("1 train images cannot be read and are left out, such as ")
    strict = tmp_path / "strict"
    with pytest.raises(InputError, match=r"1 of 36 train images cannot be read, and data\.skip_unreadable = 0 allows"):
        carry_out(lit_recipe(tower, table, data={"skip_unreadable": 0}), strict)
    shutil.copy(table.parent / "00.png", table.parent / Path(train.names[3]).name)
    assert len(losses(go_on(strict))) == 12  # mended, it goes on


def test_unseen_combinations_are_told_among_all_names() -> None:
    """Three classes of which two have images, with two prompts each; against sums written out."""
    random = np.random.default_rng(0)
    vectors = {text: random.normal(size=8) for text in ("a x", "x!", "a y", "y!", "a z", "z!", "one", "two")}
    unit = {text: (one / np.linalg.norm(one)).astype(np.float32) for text, one in vectors.items()}
    images = random.normal(size=(40, 8)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    labels = np.arange(40) % 2
    pairs = np.stack([np.arange(40), labels], axis=1)
    held_out, unseen = Gallery(images, pairs, ("one", "two")), Gallery(images, pairs, ("x", "y", "z"))
    evaluations = evaluate(lambda texts: np.stack([unit[text] for text in texts]), held_out, unseen, ("a {}", "{}!"), 7)
    means = np.stack([(unit[f"a {name}"] + unit[f"{name}!"]) / 2 for name in "xyz"])
    cosines = images @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert evaluations.unseen == np.mean(cosines.argmax(1) == labels)
    assert 0 < evaluations.unseen < 1 and evaluations.step == 7 and evaluations.num_unseen_images == 40
    cosines = images @ np.stack([unit["one"], unit["two"]]).T
    assert evaluations.image_to_text[1] == np.mean(cosines.argmax(1) == labels)
    assert evaluations.text_to_image[1] == np.mean([labels[cosines[:, text].argmax()] == text for text in (0, 1)])


def test_captions_that_read_alike_are_not_held_against_each_other(tower, data, tmp_path) -> None:
    """Half of them in capitals: for a tokenizer of lower case nothing is different."""
    lines = data.read_text().splitlines()
    loud = [line.upper().replace(".PNG", ".png") if at // 12 % 2 else line for at, line in enumerate(lines[1:])]
    (data.parent / "loud.csv").write_text("\n".join([lines[0], *loud]) + "\n")
    words = tmp_path / "words.txt"  # not learnt: it would be another one for other captions
    words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "picture", "something", *COLOURS]))
    plain, capitals = (
        lit_recipe(tower, table, text={"vocabulary": str(words)}) for table in (data, data.parent / "loud.csv")
    )
    assert len(open_pairs(capitals.data).train.classes) > len(open_pairs(plain.data).train.classes)
    expected, found = (losses(carry_out(each, tmp_path / str(at))) for at, each in enumerate((plain, capitals)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_image_with_several_captions_is_one_image_to_be_judged_on() -> None:
    """Six images with two captions each, one of them unreadable: any caption of its own is right."""
    texts = np.eye(16, dtype=np.float32)[:12]
    names, labels = [f"{row // 2}.png" for row in range(12)], np.arange(12)
    embeddings = (
        texts[[2 * (row // 2) for row in range(12)]] + 0.9 * texts[[2 * (row // 2) + 1 for row in range(12)]]
    ) / 2
    embeddings[4:6] = np.nan
    captions = tuple(f"text {label:02}" for label in range(12))
    samples = Samples(captions, [b""] * 12, names, labels)
    gallery = Gallery.of(samples, embeddings.astype(np.float32), 500)
    assert len(gallery.images) == 5 and len(gallery.texts) == 10 and len(gallery.pairs) == 10
    evaluations = evaluate(lambda asked: texts[[int(text[-2:]) for text in asked]], gallery, None, (), 1)
    assert (
        evaluations.image_to_text[1] == evaluations.text_to_image[1] == 1.0
        and evaluations.num_images == 5
        and evaluations.num_captions == 10
    )
    fewer = Gallery.of(samples, embeddings.astype(np.float32), 3)
    assert (
        len(fewer.images) == 3
        and len(fewer.pairs) == 6
        and fewer.texts == tuple(captions[i] for i in (0, 1, 6, 7, 10, 11))
    )


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer"])
def test_the_estimate_of_memory_is_about_twice_what_a_tower_keeps(name) -> None:
    config = CONFIGS[name].text.model_copy(update={"width": 64, "mlp_width": 256, "heads": 4})
    tower, kept = text_tower(config), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in tower.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tower(torch.ones(16, config.length, dtype=torch.int64))
    each = sum(storage.nbytes() for storage in kept.values()) / 16
    assert 1.5 < bytes_a_caption(config) / each < 3


app = typer.Typer()
app.command()(lit)


@app.callback()
def several_verbs() -> None:
    """As in the real command line, the verb is named."""


def command(*arguments: str):
    return CliRunner().invoke(app, ["lit", *arguments])


def test_the_command_makes_a_bundle_a_report_and_says_what_next(tower, data, tmp_path) -> None:
    options = settings(lit_recipe(tower, data).model_dump(mode="json", exclude_unset=True))
    folder = tmp_path / "run"
    done = command(*options, "--out", str(folder), "--steps", "6")
    assert done.exit_code == 0, done.output
    assert "36 training pairs with 12 captions, 12 held out" in done.stderr
    assert "recall@1" in done.stdout and f"vitsmith zeroshot {folder}/model IMAGES" in done.stdout
    page = (folder / "report.html").read_text()
    assert "A text tower for" in page and "image to text, recall@1" in page and "batch.size=8" in page
    assert {path.name for path in folder.iterdir()} == {
        "command.txt", "metrics.jsonl", "model", "recipe.json", "report.html", "vocabulary.txt"
    }  # fmt: skip
    assert load(folder / "model").vocabulary == (folder / "vocabulary.txt").read_bytes()


def test_the_command_resumes_and_refuses_changes(tower, data, tmp_path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        carry_out(lit_recipe(tower, data), folder, at(5, lambda: signal.raise_signal(signal.SIGINT)))
    refused = command("--resume", str(folder), "--lr", "0.5")
    assert isinstance(refused.exception, ConfigError)
    assert "cannot go on with another recipe (optimizer.lr: 0.01 -> 0.5)" in str(refused.exception)
    assert "leave --out and --force out" in str(command("--resume", str(folder), "--out", "elsewhere").exception)
    done = command("--resume", str(folder), "--lr", "0.01", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["num_images"] == 12
    assert "going on after update 5 of 12" in done.stderr


def test_an_interrupted_command_says_how_to_go_on(tower, data, tmp_path, monkeypatch) -> None:
    from vitsmith.training.lit import task

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "compute_gradients", interrupt)
    options = settings(lit_recipe(tower, data).model_dump(mode="json", exclude_unset=True))
    done = command(*options, "--out", str(tmp_path / "run"))
    assert isinstance(done.exception, Interrupted)
    assert str(done.exception).endswith(f"vitsmith lit --resume {tmp_path / 'run'}")


def test_a_text_tower_to_start_from_takes_the_place_of_the_recipes(tower, data, tmp_path) -> None:
    save(tiny_lit(), tmp_path / "words")
    options = ["--data", str(data), "--model", str(tower), "--text-model", str(tmp_path / "words"), "--batch-size", "8"]
    done = command(*options, "--steps", "3", "--set", "schedule.warmup=1", "--out", str(tmp_path / "run"))
    assert done.exit_code == 0, done.exception
    assert load(tmp_path / "run" / "model").config.text == CONFIGS["lit-bert"].text
