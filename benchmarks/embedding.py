"""How fast are the two towers of LiT beside towers of equal size of transformers and open_clip?

    pip install transformers && pip install --no-deps open_clip_torch ftfy regex wcwidth timm
    python benchmarks/embedding.py [--rounds 7] [--threads 2] [--only image] [--write]

Random weights, inference mode, a CPU; neither reading of images nor tokenizers. Ours is `LiT.encode_image` and
`LiT.encode_text`, unit vectors and all; theirs is the tower alone. In each round every row makes a call or several (a
fifth of a second at least), in turns, in one process, after a call that is not timed. Ratios are taken within a round;
medians and ranges over rounds are shown. The best peer is the one of the best median.

- fp32: float32 throughout, the attention each library chooses (`scaled_dot_product_attention` for all)
- bf16: weights cast once; sums in products, softmax and layer norms are float32
- tokens 16: texts without padding
- tokens 5 to 12 of 16: the lengths of labels in templates. Theirs is given the attention mask, once with all 16 tokens
  ("padded to 16") and once cut to the longest of the batch ("padded to longest")
"""

from __future__ import annotations

import argparse
import copy
import datetime
import importlib
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm_reads_our_npz import stand_in_for_torchvision
from torch import Tensor, nn
from train_step import spread

from vitsmith.machine import describe_machine
from vitsmith.models.config import LiTConfig
from vitsmith.models.initializers import initialize
from vitsmith.models.lit import LiT
from vitsmith.models.presets import VIT_SIZES, vit_config
from vitsmith.models.text_config import BertConfig, TextConfig, TextTransformerConfig

Call = Callable[[], Any]
LEAST_SECONDS = 0.2
"""A row's turn lasts at least as long."""


@dataclass
class Row:
    """One tower with one batch, and what a call took in each round."""

    owner: str
    name: str
    call: Call
    runs: int = 1
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def warm_up(self) -> None:
        self.call()
        began = time.perf_counter()
        self.call()
        self.runs = max(1, round(LEAST_SECONDS / (time.perf_counter() - began)))

    def run(self) -> None:
        self.call()
        began = time.perf_counter()
        for _ in range(self.runs):
            self.call()
        self.seconds.append((time.perf_counter() - began) / self.runs)


@dataclass
class Question:
    """Towers of one size with one batch."""

    title: str
    items: int
    rows: list[Row]

    def answer(self, rounds: int) -> None:
        for row in self.rows:
            row.warm_up()
        for _ in range(rounds):
            for row in self.rows:
                row.run()

    def best_peer(self, precision: str) -> Row:
        peers = [row for row in self.rows if row.owner != "vitsmith" and row.name.startswith(precision)]
        return min(peers, key=lambda row: row.median)

    def table(self) -> list[str]:
        best, best_bf16 = self.best_peer("fp32"), self.best_peer("bf16")
        lines = [
            "",
            f"### {self.title}",
            "",
            "| | | a second | over the best peer in fp32 | in bf16 |",
            "|---|---|---:|---:|---:|",
        ]
        for row in self.rows:
            speeds = spread([self.items / seconds for seconds in row.seconds], ".1f")
            over = [
                spread([b / a for a, b in zip(row.seconds, peer.seconds, strict=True)]) for peer in (best, best_bf16)
            ]
            lines.append(f"| {row.owner} | {row.name} | {speeds} | {' | '.join(over)} |")
        return lines


def our_lit(size: str, text: TextConfig) -> nn.Module:
    image = vit_config(size, 16).model_copy(
        update={"classes": 0 if text.classes == VIT_SIZES[size][0] else text.classes}
    )
    lit = LiT(LiTConfig(image=image, text=text))
    initialize(lit)
    return lit.eval()


def bert_config() -> BertConfig:
    """LiT-B16B_2's."""
    width, depth, heads, mlp_width = VIT_SIZES["B"]
    return BertConfig(width=width, depth=depth, heads=heads, mlp_width=mlp_width, classes=width)


def plain_config(length: int) -> TextTransformerConfig:
    """As large as CLIP's for a ViT-B/16."""
    return TextTransformerConfig(
        width=512, depth=12, heads=8, mlp_width=2048, vocabulary=49408, length=length, classes=512
    )


def two_precisions(
    owner: str, name: str, model: nn.Module, call: Callable[[nn.Module, torch.dtype], Call]
) -> list[Row]:
    low = copy.deepcopy(model).bfloat16()
    return [
        Row(owner, f"fp32{name}", call(model, torch.float32)),
        Row(owner, f"bf16{name}", call(low, torch.bfloat16)),
    ]


def image_questions() -> Iterator[Question]:
    for size in ("B", "S"):
        yield from vit_questions(size)


def vit_questions(size: str) -> Iterator[Question]:
    from open_clip.transformer import VisionTransformer
    from transformers import ViTConfig, ViTModel

    width, depth, heads, mlp_width = VIT_SIZES[size]
    lit = our_lit(size, plain_config(16))
    theirs = ViTModel(
        ViTConfig(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=mlp_width),
        add_pooling_layer=False,
    ).eval()
    clip = VisionTransformer(224, 16, width, depth, heads, mlp_width / width, output_dim=512).eval()
    for batch in (1, 16):
        images = torch.randn(batch, 3, 224, 224)
        rows = [
            *two_precisions("vitsmith", "", lit, lambda m, t, x=images: lambda: m.encode_image(x.to(t))),
            *two_precisions("transformers", "", theirs, lambda m, t, x=images: lambda: m(pixel_values=x.to(t))),
            *two_precisions("open_clip", "", clip, lambda m, t, x=images: lambda: m(x.to(t))),
        ]
        sizes = f"{millions(lit.image)}, transformers {millions(theirs)}, open_clip {millions(clip)}"
        yield Question(f"Images, ViT-{size}/16 ({sizes}), batches of {batch}", batch, rows)


def bert_questions() -> Iterator[Question]:
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    lit = our_lit("Ti", bert_config())
    bert = BertModel(TheirConfig(hidden_act="gelu_new"), add_pooling_layer=False).eval()
    sizes = f"{millions(lit.text)}, transformers {millions(bert)}"
    for padded in (False, True):
        for batch in (1, 64, 256):
            tokens, mask = draw_texts(batch, 16, range(5, 13) if padded else range(16, 17), vocabulary=30522)
            longest = int(mask.sum(dim=1).max())
            rows = two_precisions("vitsmith", "", lit, lambda m, _, t=tokens: lambda: m.encode_text(t))
            for name, length in ((", padded to 16", 16), (", padded to longest", longest)) if padded else (("", 16),):
                t, few = tokens[:, :length].contiguous(), mask[:, :length].contiguous()
                rows += two_precisions(
                    "transformers", name, bert, lambda m, _, t=t, a=few: lambda: m(t, attention_mask=a)
                )
            what = f"{'5 to 12 of 16' if padded else '16'} tokens"
            yield Question(f"Texts, BERT-base ({sizes}), {what}, batches of {batch}", batch, rows)


def plain_questions() -> Iterator[Question]:
    from open_clip.transformer import TextTransformer

    for length in (16, 77):
        lit = our_lit("Ti", plain_config(length))
        clip = TextTransformer(length, 49408, 512, 8, 12, no_causal_mask=True, pool_type="last").eval()
        sizes = f"{millions(lit.text)}, open_clip {millions(clip)}"
        for batch in (1, 64, 256):
            tokens, _ = draw_texts(batch, length, range(length, length + 1), vocabulary=49408)
            rows = [
                *two_precisions("vitsmith", "", lit, lambda m, _, t=tokens: lambda: m.encode_text(t)),
                *two_precisions("open_clip", "", clip, lambda m, _, t=tokens: lambda: m(t)),
            ]
            title = f"Texts, plain transformer of width 512 ({sizes}), {length} tokens, batches of {batch}"
            yield Question(title, batch, rows)


def millions(model: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f}M parameters"


def draw_texts(texts: int, length: int, lengths: range, *, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids (texts, length), 0 after each text's end, and the mask of what is not padding."""
    ends = torch.randint(lengths.start, lengths.stop, (texts, 1))
    mask = torch.arange(length)[None] < ends
    return torch.randint(1, vocabulary - 1, (texts, length)) * mask, mask.long()


def agreement() -> list[str]:
    """What bfloat16 changes in LiT-B16B_2's towers, with noise on all weights so that embeddings spread."""
    lit = our_lit("B", bert_config())
    for parameter in lit.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    low = copy.deepcopy(lit).bfloat16()
    images = F.interpolate(torch.randn(64, 3, 8, 8), size=224, mode="bicubic").clamp(-1, 1)
    tokens, _ = draw_texts(256, 16, range(5, 13), vocabulary=30522)
    exact, found = lit.encode_image(images), low.encode_image(images.bfloat16()).float()
    texts, found_texts = lit.encode_text(tokens), low.encode_text(tokens).float()
    top = exact @ texts.T
    kept = (top.argmax(1) == (found @ found_texts.T).argmax(1)).float().mean()
    best, second = top.topk(2, dim=1).values.unbind(1)
    return [
        "",
        "## What bfloat16 changes",
        "",
        f"LiT-B16B_2 with random weights, 64 images of coloured clouds, 256 texts. Cosine of an embedding in bf16 with "
        f"the same in fp32, the lowest: images {F.cosine_similarity(exact, found).min():.5f}, texts "
        f"{F.cosine_similarity(texts, found_texts).min():.5f}. The best of 256 texts for an image is the same for "
        f"{kept:.1%} of the images, though nothing was learned: the second best is behind by "
        f"{(best - second).median():.4f} of cosine (median).",
    ]


QUESTIONS = {"image": image_questions, "bert": bert_questions, "plain": plain_questions}


def summary(questions: list[Question]) -> list[str]:
    """Ours over the best fp32 peer, a line a question."""
    lines = ["", "| over the best peer in fp32, medians | ours in fp32 | ours in bf16 | the best peer in bf16 |"]
    lines.append("|---|---:|---:|---:|")
    for question in questions:
        best = question.best_peer("fp32")
        ours = [row for row in question.rows if row.owner == "vitsmith"]
        ratios = (
            statistics.median(theirs / mine for mine, theirs in zip(row.seconds, best.seconds, strict=True))
            for row in (*ours, question.best_peer("bf16"))
        )
        lines.append(f"| {question.title} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    return lines


def report(options: argparse.Namespace, questions: list[Question]) -> list[str]:
    peers = ", ".join(f"{name} {version(name)}" for name in ("transformers", "open_clip_torch"))
    only = f" --only {options.only}" if options.only else ""
    return [
        "# Embedding of images and texts",
        "",
        f"`python benchmarks/embedding.py --rounds {options.rounds}{only}`, "
        f"{datetime.date.today()}, {describe_machine()}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {peers}. "
        f"Median (lowest to highest) of {options.rounds} rounds in turns.",
        *summary(questions),
        *agreement(),
        "",
        "## All rows",
        *(line for question in questions for line in question.table()),
        "",
        *["    " + line if line else "" for line in (__doc__ or "").splitlines()[5:]],
    ]


def result_path() -> Path:
    machine = describe_machine().split(",")[0].lower().replace(" ", "-")
    return Path(__file__).parent / "results" / f"embedding_{machine}_{datetime.date.today()}.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: torch's")
    parser.add_argument("--only", choices=QUESTIONS)
    parser.add_argument("--write", action="store_true", help=f"into benchmarks/results/{result_path().name}")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # before torchvision is stood in for: transformers does without it only when it is missing
    importlib.import_module("transformers.models.vit.modeling_vit")
    importlib.import_module("transformers.models.bert.modeling_bert")
    stand_in_for_torchvision()
    torch.manual_seed(0)
    questions = []
    with torch.inference_mode():
        for ask in [QUESTIONS[options.only]] if options.only else QUESTIONS.values():
            for question in ask():
                question.answer(options.rounds)
                questions.append(question)
                print("\n".join(question.table()), file=sys.stderr, flush=True)
        text = "\n".join(report(options, questions)) + "\n"
    print(text)
    if options.write:
        result_path().write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
