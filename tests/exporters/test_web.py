"""The exported page, driven in a browser: what it answers is what we answer, and what goes wrong is told in words."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from tests.exporters.browser import Browser, serving
from tests.exporting import export_onnx, export_web
from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec, Labels, Predictor, load, save
from vitsmith.data.images.preprocess import load_image, preprocess
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.encode import Encoder
from vitsmith.engines.open import open_engine
from vitsmith.errors import BundleError, DownloadError, GateError, InputError
from vitsmith.exporters import onnx as export_module
from vitsmith.exporters import web, web_runtime
from vitsmith.predict import show_probability
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.bundle.golden import write_golden
from vitsmith.zeroshot.classifier import ZeroShotClassifier

NAMES = ("tench", "a very long name of a class that does not fit", "<b>bold</b> & co.", "d", "écureuil")


@pytest.fixture(scope="module", autouse=True)
def runtime() -> dict[str, bytes]:
    """onnxruntime-web from the cache or npm, unpacked once."""
    try:
        found = web_runtime.web_runtime()
    except DownloadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, runtime: dict[str, bytes]) -> Iterator[Path]:
    """A folder for pages and pictures; all of it is served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "web_runtime", lambda: runtime)  # unpacking takes a second
        yield tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with serving(place) as url:
        yield url


@pytest.fixture(scope="module")
def torch_bundle() -> Bundle:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]), labels=Labels(names=NAMES))
    return bundle.with_golden(pictures(2))


@pytest.fixture(scope="module")
def page(place: Path, torch_bundle: Bundle) -> Bundle:
    """The page of a ViT."""
    written, verdict = export_web(torch_bundle, place / "vit")
    assert verdict is not None and verdict.passed and verdict.relative < 1e-5
    return written


@pytest.fixture(scope="module")
def files(place: Path) -> dict[str, Path]:
    """Pictures as files: lossless, transparent, turned by EXIF, and lossy."""
    photo, other = (Image.fromarray(image) for image in sample_images(2))
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = Image.fromarray(np.linspace(0, 255, 256 * 256).reshape(256, 256).astype(np.uint8))
    clear = photo.copy()
    clear.putalpha(alpha)
    folder = place / "pictures"
    folder.mkdir()
    wide = photo.crop((0, 40, 256, 170))
    wide.save(folder / "wide.png")
    other.convert("L").save(folder / "grey.png")
    wide.save(folder / "turned.png", exif=turned)
    clear.save(folder / "clear.png")
    wide.save(folder / "turned.jpg", exif=turned, quality=92)
    photo.save(folder / "profile.png", icc_profile=_wide_profile())
    (folder / "broken.jpg").write_bytes((folder / "turned.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no image at all")
    (folder / "empty.png").write_bytes(b"")
    return {path.name: path for path in folder.iterdir()}


def _wide_profile() -> bytes:
    """A colour profile that a viewer would apply and that models never saw."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def answers(browser: Browser, address: str, name: str, paths: list[Path]) -> list[dict[str, Any]]:
    """What the modules of a page say about files; `outputs` as float32."""
    browser.open(f"{address}{name}/index.html")
    found = browser.run(
        f"""(async () => {{
          const {{ openModel }} = await import('{address}{name}/model.js');
          const model = await openModel();
          const answers = [];
          for (const name of {json.dumps([path.name for path in paths])}) {{
            const blob = await (await fetch('{address}pictures/' + name)).blob();
            const answer = await model.answer(new File([blob], name), 3);
            answers.push({{ ...answer, outputs: Array.from(answer.outputs), facts: model.facts }});
          }}
          return answers;
        }})()"""
    )
    assert not browser.complaints
    return [answer | {"outputs": np.array(answer["outputs"], np.float32)} for answer in found]


def opened(browser: Browser, url: str) -> None:
    """The page as a reader sees it, its model loaded."""
    browser.open(url)
    browser.wait("document.body.dataset.state")


def shown(browser: Browser, number: int) -> str:
    """The text of the page once it has answered for the `number`th image."""
    browser.wait(f"document.body.dataset.answered === '{number}'")
    return browser.text()


def shown_percent(probability: float) -> str:
    return show_probability(probability).replace("%", " %")


# --- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_is_a_bundle_and_a_page(page: Bundle, torch_bundle: Bundle, runtime: dict[str, bytes]) -> None:
    folder = page.folder
    assert folder is not None
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    ours = {*web.PAGE, "page.json", *(f"ort/{name}" for name in runtime)}
    assert names == ours | {"README.md", "bundle.json", "golden.safetensors", "model.onnx"}
    source = Path(web.__file__).parent.parent / "web"
    assert {path.name for path in source.iterdir()} == set(web.PAGE)  # nothing is forgotten
    loaded = load(folder)
    assert loaded.program == "onnx" and loaded.labels == torch_bundle.labels
    assert loaded.provenance.source.startswith("vitsmith export --to web")
    images = sample_images(2)
    np.testing.assert_allclose(Predictor(loaded).logits(images), Predictor(torch_bundle).logits(images), atol=1e-4)


def test_a_changed_script_is_noticed(page: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(page.folder, tmp_path / "copy")
    (copy / "preprocess.js").write_text("export {}")
    with pytest.raises(BundleError, match=r"preprocess\.js is not the file"):
        load(copy)


# --- the same numbers ------------------------------------------------------------------------------------------------

BICUBIC = ImageSpec(size=(24, 24), interpolation="bicubic", antialias=True, quantize="round")
SPECS = {
    "original": ImageSpec.original((16, 24)),
    "lit": ImageSpec.lit((20, 20)),
    "lit-crop": ImageSpec.lit((20, 33), crop=True),
    "crop-kept-as-float": ImageSpec(size=(30, 20), resize="shorter", crop=0.9),
    "two-taps-rounded": ImageSpec(size=(50, 37), quantize="round", mean=(0.1, 0.4, 0.8), std=(0.2, 0.3, 1.7)),
    "larger-than-the-picture": ImageSpec.original((150, 201)),
    "bicubic": ImageSpec.pillow(24),
    "bilinear": ImageSpec.pillow(31, crop=0.875, interpolation="bilinear", mean=(0.485, 0.456, 0.406)),
    "lanczos": ImageSpec.pillow(29, crop=1.0, interpolation="lanczos", std=(0.229, 0.224, 0.225)),
    "bicubic-not-square": ImageSpec.pillow((24, 37), crop=0.95),
    "bicubic-squashed": ImageSpec.pillow((19, 44), resize="squash"),
    "bicubic-enlarged": ImageSpec.pillow(150, crop=0.9),
    "lanczos-enlarged": ImageSpec.pillow((160, 90), resize="squash", interpolation="lanczos"),
    "bicubic-crop-of-squashed": BICUBIC.model_copy(update={"size": (21, 34), "crop": 0.8, "corner": "floor"}),
    "bicubic-corner-down": BICUBIC.model_copy(update={"size": (25, 25), "resize": "shorter", "corner": "floor"}),
    "bicubic-filled": BICUBIC.model_copy(update={"size": (31, 44), "resize": "longer", "fill": (9, 20, 250)}),
    "bicubic-filled-and-cropped": BICUBIC.model_copy(update={"size": (35, 24), "resize": "longer", "crop": 0.8}),
    "bilinear-in-float": ImageSpec(size=(26, 37), antialias=True, mean=(0.485, 0.456, 0.406)),
    "bicubic-in-float": ImageSpec(size=(33, 26), antialias=True, interpolation="bicubic", resize="shorter", crop=0.9),
    "bilinear-in-float-enlarged": ImageSpec(size=(120, 110), antialias=True, resize="longer", fill=(1, 2, 3)),
}


def test_a_browser_prepares_images_as_we_do(browser: Browser, address: str, page: Bundle) -> None:
    """Every resizer, kind of crop and rounding, up and down, on noise, which shows every wrong weight."""
    browser.open(f"{address}vit/index.html")
    pillow = json.loads((page.folder / "page.json").read_text())["pillow"]
    random = np.random.default_rng(0)
    sizes = [(61, 83), (97, 45), (24, 24), (40, 200), (200, 31), (33, 29), (7, 5)]
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for image in images:
        image[: len(image) // 2] = image[: len(image) // 2] // 128 * 255  # black and white: filters overshoot
    sent = [[*image.shape[:2], base64.b64encode(image.tobytes()).decode()] for image in images]
    found = browser.run(
        f"""(async () => {{
          const {{ preprocess }} = await import('{address}vit/preprocess.js');
          const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
          const images = {json.dumps(sent)}.map(([height, width, text]) => ({{ height, width, data: bytes(text) }}));
          const specs = {json.dumps([spec.model_dump(mode="json") | {"pillow": pillow} for spec in SPECS.values()])};
          const letters = (values) => Array.from(new Uint8Array(values.buffer), (one) => String.fromCharCode(one));
          const text = (values) => btoa(letters(values).join(''));
          return specs.map((spec) => images.map((image) => text(preprocess(image, spec))));
        }})()"""
    )
    for (name, spec), tensors in zip(SPECS.items(), found, strict=True):
        for image, tensor in zip(images, tensors, strict=True):
            expected = preprocess(image, spec)
            values = np.frombuffer(base64.b64decode(tensor), np.float32).reshape(expected.shape)
            atol = 3e-6 if name.startswith("bicubic-in-float") else 1e-6  # weights are summed in another order
            np.testing.assert_allclose(values, expected, rtol=0, atol=atol, err_msg=f"{name} of {image.shape}")


def test_a_long_line_is_refused_in_the_browser_too(browser: Browser, address: str, page: Bundle) -> None:
    browser.open(f"{address}vit/index.html")
    spec = ImageSpec.pillow(256).model_dump_json()
    message = browser.run(
        f"""import('{address}vit/preprocess.js').then(({{ preprocess }}) => {{
          try {{ preprocess({{ height: 1, width: 1000000, data: new Uint8Array(3000000) }}, {spec}); }}
          catch (error) {{ return error.message; }}
        }})"""
    )
    assert message == "The image, 1000000 \u00d7 1 pixels, is too long and narrow to be resized. Cut it first."


def test_a_browser_gives_our_logits(
    browser: Browser, address: str, page: Bundle, torch_bundle: Bundle, files: dict[str, Path]
) -> None:
    exact = ["wide.png", "grey.png", "turned.png", "profile.png"]
    found = answers(browser, address, "vit", [files[name] for name in [*exact, "clear.png", "turned.jpg"]])
    expected = torch_bundle.run_torch(
        np.stack([load_image(files[name], page.preprocessing) for name in [*exact, "clear.png", "turned.jpg"]])
    )
    largest = np.abs(expected).max()
    for name, answer, logits in zip(exact, found, expected, strict=False):
        np.testing.assert_allclose(answer["outputs"], logits, rtol=0, atol=1e-4 * largest, err_msg=name)
    # Browsers compose transparency, and decode JPEG, with roundings of their own.
    for answer, logits in zip(found[-2:], expected[-2:], strict=True):
        np.testing.assert_allclose(answer["outputs"], logits, rtol=0, atol=0.02 * largest)
        assert answer["outputs"].argmax() == logits.argmax()
    assert found[2]["size"] == [130, 256]  # turned upright
    first = Predictor(page)([files["wide.png"]])[0]
    assert [one["label"] for one in found[0]["top"]] == [label for label, _ in first.top(3)]
    np.testing.assert_allclose([one["probability"] for one in found[0]["top"]], [p for _, p in first.top(3)], atol=1e-4)
    assert all(url.startswith((address, "blob:", "data:")) for url in browser.requests)  # nothing from elsewhere
    assert any(url.endswith("ort-wasm-simd-threaded.wasm") for url in browser.requests)


def test_a_picture_larger_than_a_phones_canvas_is_read_in_strips(
    browser: Browser, address: str, page: Bundle, files: dict[str, Path]
) -> None:
    large = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)
    image = Image.fromarray(large).resize((2300, 4100), Image.Resampling.NEAREST)
    image.save(files["wide.png"].parent / "large.png", compress_level=1)
    browser.open(f"{address}vit/index.html")
    found = browser.run(
        f"""(async () => {{
          const {{ readPicture }} = await import('{address}vit/decode.js');
          const blob = await (await fetch('{address}pictures/large.png')).blob();
          const {{ height, width, data }} = await readPicture(blob);
          const rows = [0, 1822, 1823, 1824, 4099].map((y) => Array.from(data.slice(3 * y * width, 3 * y * width + 6)));
          return {{ height, width, rows }};
        }})()"""
    )
    pixels = np.array(image)
    assert (found["height"], found["width"]) == (4100, 2300)
    for y, row in zip([0, 1822, 1823, 1824, 4099], found["rows"], strict=True):
        assert row == pixels[y, :2].ravel().tolist()


# --- other programs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pillow", "pixels", "fp16", "int8"])
def test_a_program_that_is_there_is_taken_as_it_is(
    kind: str, browser: Browser, address: str, place: Path, page: Bundle, torch_bundle: Bundle, files: dict[str, Path]
) -> None:
    if kind == "pillow":  # other preprocessing, and no names
        other = dataclasses.replace(page, preprocessing=ImageSpec.pillow((16, 24), crop=0.8), golden=None, labels=None)
        exported = with_program(other, place / "pillow-onnx", page.folder / "model.onnx")
    elif kind in ("pixels", "fp16"):
        spec = ProgramSpec(pixels=True) if kind == "pixels" else ProgramSpec(precision="fp16")
        exported, _ = export_onnx(torch_bundle, place / f"{kind}-onnx", spec=spec)
    else:
        exported = quantized(page, place)
    written, verdict = export_web(exported, place / kind)
    assert verdict is None and written.provenance.parent == str(exported.folder)
    assert (written.folder / "model.onnx").read_bytes() == (exported.folder / "model.onnx").read_bytes()
    (answer,) = answers(browser, address, kind, [files["wide.png"]])
    expected = Predictor(exported).logits([files["wide.png"]])[0]
    atol = {"int8": 0.05, "fp16": 0.01}.get(kind, 1e-4) * np.abs(expected).max()
    np.testing.assert_allclose(answer["outputs"], expected, rtol=0, atol=atol)
    assert answer["facts"]["precision"] == (kind if kind in ("fp16", "int8") else "fp32")
    assert answer["facts"].get("checked", False) is (kind != "pillow")
    best = expected.argmax()
    assert answer["top"][0]["label"] == (f"class {best}" if kind == "pillow" else NAMES[best])


def with_program(bundle: Bundle, folder: Path, program: Path) -> Bundle:
    return write_bundle(
        bundle, folder, write_program=lambda place: shutil.copyfile(program, place / "model.onnx") and None
    )


def quantized(exported: Bundle, place: Path) -> Bundle:
    """The same with int8 products, by onnxruntime's own tool."""
    from onnxruntime.quantization import quantize_dynamic

    program = place / "int8.onnx"
    quantize_dynamic(exported.folder / "model.onnx", program)
    changed = dataclasses.replace(exported, program_spec=ProgramSpec(precision="int8"), golden=None)
    made = with_program(changed, place / "int8-onnx", program)
    golden = dataclasses.replace(exported.golden, outputs=open_engine(made, "onnx").run(exported.golden.tensors))
    return with_program(dataclasses.replace(made, golden=golden), place / "int8-onnx", program)


def test_classes_of_one_name_are_told_apart(
    browser: Browser, address: str, place: Path, files: dict[str, Path], torch_bundle: Bundle
) -> None:
    twins = dataclasses.replace(torch_bundle, labels=Labels(names=("crane",) * 5))
    export_web(twins, place / "twins")
    (answer,) = answers(browser, address, "twins", [files["wide.png"]])
    expected = Predictor(twins)([files["wide.png"]])[0].top(3)
    assert [one["label"] for one in answer["top"]] == [label for label, _ in expected]
    assert len({one["label"] for one in answer["top"]}) == 3
    assert load(place / "twins").labels == twins.labels


# --- LiT -------------------------------------------------------------------------------------------------------------


def test_a_lit_page_chooses_among_words_or_compares_images(
    browser: Browser, address: str, place: Path, files: dict[str, Path]
) -> None:
    lit = tiny_lit().with_golden(pictures(2))
    words = ["red", "blue circle", "cat", "dog"]
    exported, verdict = export_web(lit, place / "lit", labels=words, templates="the {}")
    assert verdict is not None and verdict.passed
    (answer,) = answers(browser, address, "lit", [files["wide.png"]])
    expected = ZeroShotClassifier(lit, words, templates="the {}", cache=False)([files["wide.png"]])[0]
    assert [one["label"] for one in answer["top"]] == [label for label, _ in expected.top(3)]
    np.testing.assert_allclose(
        [one["probability"] for one in answer["top"]], [p for _, p in expected.top(3)], atol=1e-4
    )
    assert ZeroShotClassifier(load(place / "lit"), words, cache=False).labels.names == tuple(words)  # a bundle still

    export_web(exported, place / "lit-alone")
    opened(browser, f"{address}lit-alone/index.html")
    assert "Give two images, one after the other" in browser.text()
    browser.choose("#file", files["wide.png"])
    assert "Give a second image" in shown(browser, 1)
    browser.choose("#file", files["grey.png"])
    first, second = Encoder(lit).images([files["wide.png"], files["grey.png"]])
    assert f"Cosine with wide.png\n{first @ second:.3f}\n" in shown(browser, 2)


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["sigmoid", "regression"])
def test_a_page_shows_what_the_head_means(
    browser: Browser, address: str, place: Path, files: dict[str, Path], torch_bundle: Bundle, head: Any
) -> None:
    bundle = dataclasses.replace(torch_bundle, head=head)
    export_web(bundle, place / head)
    (answer,) = answers(browser, address, head, [files["wide.png"]])
    expected = Predictor(bundle, "torch")([files["wide.png"]])[0]
    kind = "value" if head == "regression" else "probability"
    assert [one["label"] for one in answer["top"]] == [label for label, _ in expected.top(3)]
    np.testing.assert_allclose([one[kind] for one in answer["top"]], [score for _, score in expected.top(3)], atol=1e-4)
    opened(browser, f"{address}{head}/index.html")
    browser.choose("#file", files["wide.png"])
    text = shown(browser, 1)
    label, score = expected.top(1)[0]
    if head == "regression":
        assert f"{label}\n" in text and "%" not in text.partition("Decoding")[0]
        assert "none: 5 values" in browser.run("document.body.textContent")
    else:
        assert f"{label}\n{shown_percent(score)}\n" in text
        assert "5, each scored by itself" in browser.run("document.body.textContent")
    assert not browser.complaints


def test_a_page_gives_calibrated_probabilities(
    browser: Browser, address: str, place: Path, files: dict[str, Path], torch_bundle: Bundle, page: Bundle
) -> None:
    softmax = export_web(page.with_calibration(3.0, data="pets"), place / "calibrated")[0]
    (answer,) = answers(browser, address, "calibrated", [files["wide.png"]])
    (expected,) = Predictor(softmax)([files["wide.png"]])
    (plain,) = Predictor(page)([files["wide.png"]])
    assert expected.probability < plain.probability - 0.05
    np.testing.assert_allclose(
        [one["probability"] for one in answer["top"]], [score for _, score in expected.top(3)], atol=1e-4
    )
    assert all("present" not in one for one in answer["top"])
    alone = dataclasses.replace(page, head="sigmoid", calibration=None)
    export_web(alone, place / "thresholds")
    order = expected.best(3)
    (scores,) = (one.scores for one in Predictor(alone.with_calibration(2.0))([files["wide.png"]]))
    limits = [0.0 if index == order[0] else scores[order[1]] if index == order[1] else 1.0 for index in range(5)]
    limits[order[1]] = float(limits[order[1]]) + 0.01
    save(load(place / "thresholds").with_calibration(2.0, limits), place / "thresholds")  # the page stays a page
    (answer,) = answers(browser, address, "thresholds", [files["wide.png"]])
    (expected,) = Predictor(place / "thresholds")([files["wide.png"]])
    assert [one["present"] for one in answer["top"]] == [label in expected.present for label, _ in expected.top(3)]
    assert [one["present"] for one in answer["top"]] == [True, False, False]
    opened(browser, f"{address}thresholds/index.html")
    browser.choose("#file", files["wide.png"])
    shown(browser, 1)
    classes = browser.run("Array.from(document.querySelectorAll('#answers li'), (row) => row.className)")
    assert classes[:3] == ["", "absent", "absent"]
    assert "logits divided by 2, 5 thresholds" in browser.run("document.body.textContent")
    assert not browser.complaints


# --- the page --------------------------------------------------------------------------------------------------------


def drop(browser: Browser, url: str, name: str, event: str = "drop") -> None:
    """Drops a file on the page, or pastes it."""
    browser.run(
        f"""fetch('{url}').then((answer) => answer.blob()).then((blob) => {{
          const data = new DataTransfer();
          data.items.add(new File([blob], '{name}', {{ type: blob.type }}));
          const options = {{ bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data }};
          document.getElementById('drop').dispatchEvent(
            '{event}' === 'paste' ? new ClipboardEvent('paste', options) : new DragEvent('{event}', options));
        }})"""
    )


def test_the_page_answers_what_is_chosen_dropped_and_pasted(
    browser: Browser, address: str, page: Bundle, files: dict[str, Path]
) -> None:
    opened(browser, f"{address}vit/index.html")
    text = browser.text()
    assert text.startswith("ViT of width 32, depth 2, patch 8x8 at 16x24") and "fp32 · 0.2 MB" in text
    assert "1 thread" in text and "The best answers appear here" in text
    ways: list[tuple[str, Callable[[], None]]] = [
        ("wide.png", lambda: browser.choose("#file", files["wide.png"])),
        ("turned.jpg", lambda: drop(browser, f"{address}pictures/turned.jpg", "turned.jpg")),
        ("grey.png", lambda: drop(browser, f"{address}pictures/grey.png", "grey.png", "paste")),
    ]
    for number, (name, give) in enumerate(ways, start=1):
        give()
        text = shown(browser, number)
        best, size = Predictor(page)([files[name]])[0], read_image(files[name]).shape
        assert f"{best.label}\n{shown_percent(best.probability)}\n" in text  # also '<b>' as it is written
        assert f"{name}, {size[1]} \u00d7 {size[0]} pixels" in text
        for times in ("Decoding", "Preparing", "Model"):
            assert f"{times}\n" in text and "ms" in text
        assert browser.run("document.getElementById('preview').naturalWidth") > 0
    assert browser.run("document.querySelectorAll('#answers li').length") == 5
    assert not browser.complaints


def test_the_page_works_by_keyboard(browser: Browser, address: str, page: Bundle) -> None:
    opened(browser, f"{address}vit/index.html")
    focused = []
    for _ in range(2):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        focused.append(browser.run("document.activeElement.id || document.activeElement.localName"))
    assert focused == ["file", "summary"]
    assert browser.run("document.querySelector('label[for=file]').innerText").startswith("Choose an image")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken.jpg", "broken.jpg could not be read: it is damaged, or not an image this browser knows."),
        ("notes.txt", "notes.txt could not be read: it is damaged"),
        ("empty.png", "empty.png is empty (0 bytes)."),
    ],
)
def test_what_is_no_image_is_told_and_the_next_one_answered(
    name: str, words: str, browser: Browser, address: str, page: Bundle, files: dict[str, Path]
) -> None:
    opened(browser, f"{address}vit/index.html")
    browser.choose("#file", files[name])
    text = shown(browser, 1)
    assert words in text and "Choose an image" in text
    assert browser.run("document.getElementById('error').getAttribute('role')") == "alert"
    browser.choose("#file", files["wide.png"])
    text = shown(browser, 2)
    assert words not in text and Predictor(page)([files["wide.png"]])[0].label in text


def test_threads_are_used_where_the_server_allows_them(
    browser: Browser, place: Path, page: Bundle, files: dict[str, Path]
) -> None:
    with serving(place, isolated=True) as url:
        opened(browser, f"{url}vit/index.html")
        threads = min(browser.run("navigator.hardwareConcurrency"), 4)
        assert f"WebAssembly, {threads} thread" in browser.text()
        browser.choose("#file", files["wide.png"])
        assert Predictor(page)([files["wide.png"]])[0].label in shown(browser, 1)
        assert not browser.complaints


def test_other_golden_answers_stop_the_page(browser: Browser, address: str, place: Path, page: Bundle) -> None:
    for name, part in (("outputs", "The model gives other answers"), ("tensors", "This browser prepares images")):
        copy = shutil.copytree(page.folder, place / f"wrong-{name}")
        array = getattr(page.golden, name).copy()
        array[0] += 0.3 * np.abs(array).max()
        write_golden(dataclasses.replace(page.golden, **{name: array}), copy / "golden.safetensors")
        opened(browser, f"{address}wrong-{name}/index.html")
        assert part in browser.text()
        assert browser.run("document.body.dataset.state") == "failed"


def test_missing_and_other_files_are_told(browser: Browser, address: str, place: Path, page: Bundle) -> None:
    for change_folder, words in (
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx is not here (HTTP 404). Copy the whole folder"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"short"), "model.onnx came only in part (5 of"),
        (lambda folder: (folder / "ort/ort.wasm.min.mjs").unlink(), "The model could not be started"),
    ):
        copy = shutil.copytree(page.folder, place / "damaged", dirs_exist_ok=True)
        change_folder(copy)
        opened(browser, f"{address}damaged/index.html")
        assert words in browser.text()
        shutil.rmtree(copy)


def test_a_page_opened_as_a_file_says_how_to_serve_it(browser: Browser, page: Bundle) -> None:
    browser.open((page.folder / "index.html").as_uri())
    browser.run("document.getAnimations().forEach((one) => one.finish())")  # it appears after some seconds
    browser.wait("getComputedStyle(document.getElementById('unserved')).opacity === '1'")
    assert "python -m http.server" in browser.text()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_is_nothing_for_a_page(
    page: Bundle, torch_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle, options, words in (
        (torch_bundle, {"spec": ProgramSpec(batch=4)}, "a page answers one image at a time, not 4: export it with"),
        (dataclasses.replace(page, program_spec=ProgramSpec(batch=2)), {"spec": ProgramSpec()}, "at a time, not 2"),
        (torch_bundle, {"labels": ["cat"]}, "has classes of its own: labels in words are for LiT"),
        (dataclasses.replace(torch_bundle, program="executorch"), {}, r"already exported \(model\.executorch\)"),
        (Bundle.of(tiny_model(CONFIGS["vit-unpooled"])), {}, "gives logits for each patch"),
    ):
        with pytest.raises(InputError, match=words):
            export_web(bundle, tmp_path / "refused", **options)
    monkeypatch.setattr(web, "LARGEST_PROGRAM", 1000)
    for bundle in (torch_bundle, page):
        with pytest.raises(InputError, match="more than a browser holds: take a smaller model"):
            export_web(bundle, tmp_path / "refused")
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_leaves_no_page(
    page: Bundle, torch_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_other(_: Any, path: Path, *, batch: int | None) -> None:
        graph = onnx.load(page.folder / "model.onnx")
        (bias,) = [array for array in graph.graph.initializer if array.name == "head.bias"]
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias)[::-1].copy(), "head.bias"))
        onnx.save(graph, path)

    monkeypatch.setattr(export_module, "write_graph", write_other)
    with pytest.raises(GateError, match="nothing was written"):
        export_web(torch_bundle, tmp_path / "refused")
    assert not list(tmp_path.iterdir())
