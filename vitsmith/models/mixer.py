"""MLP-Mixer: "An all-MLP Architecture for Vision", arXiv 2105.01601.

B batch, N patches, D width, K classes. Source: models_mixer.py of the original.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vitsmith.layers.depth import StochasticDepth, depth_rates
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.norm import LayerNorm
from vitsmith.layers.patches import PatchEmbedding, sequence
from vitsmith.models.config import MixerConfig
from vitsmith.models.features import Features, record
from vitsmith.models.inputs import check_images


class MixerBlock(nn.Module):
    """An MLP across the tokens of each channel, then one across the channels of each token, on (B, N, D)."""

    def __init__(self, config: MixerConfig, stochastic_depth: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.width, eps=config.norm_eps)
        self.token_mixing = Mlp(config.tokens, config.tokens_mlp_width, config.gelu, config.dropout)
        self.norm2 = LayerNorm(config.width, eps=config.norm_eps)
        self.channel_mixing = Mlp(config.width, config.channels_mlp_width, config.gelu, config.dropout)
        self.drop_branch = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_mixing(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.drop_branch(mixed)
        return x + self.drop_branch(self.channel_mixing(self.norm2(x)))


class MlpMixer(nn.Module):
    """Images (B, 3, height, width) -> logits (B, K), or the mean token (B, D) for classes=0."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = PatchEmbedding(3, config.width, config.patch)
        rates = depth_rates(config.stochastic_depth, config.depth)
        self.blocks = nn.ModuleList(MixerBlock(config, rate) for rate in rates)
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.classes) if config.classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self._encode(images).mean(dim=1))

    def features(self, images: Tensor, *, intermediates: Sequence[str] = ()) -> Features:
        """Tokens (B, N, D), pooled (B, D) and grid; `intermediates` as in `VisionTransformer.features`."""
        with record(self, intermediates) as seen:
            tokens = self._encode(images)
        return Features(tokens, tokens.mean(dim=1), self.config.grid, seen)

    def _encode(self, images: Tensor) -> Tensor:
        check_images(images, self.config.image_size)
        x = sequence(self.patches(images))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
