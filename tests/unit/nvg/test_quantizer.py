"""The multi-granularity quantizer beyond the golden numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nvgbench.errors import InputError
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.objective import canvases_of
from nvgbench.nvg.quantizer import GranularityQuantizer, cluster_means
from nvgbench.nvg.stages import stage_tokens
from nvgbench.nvg.structure import finest_to_stages
from nvgbench.types import TokenSequence


def make_quantizer(*, commitment: float = 0.25, entropy: bool = False, **settings: object) -> GranularityQuantizer:
    torch.manual_seed(0)
    quantizer = GranularityQuantizer(GranularityConfig(**settings), 32, 6, (4, 4), commitment=commitment, entropy=entropy)
    torch.nn.init.normal_(quantizer.codebook.weight)
    return quantizer


LATENT = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(4))
VARIANTS = [
    {},
    {"group_size": 4},
    {"group_size": (2, 4, 2), "child_order": "raster"},
    {"clustering": "quadtree"},
    {"clustering": "random"},
    {"child_order": "random"},
    {"phi_sharing": "all"},
]


@pytest.mark.parametrize("settings", VARIANTS)
@torch.no_grad()
def test_training_and_tokenizing_agree(settings: dict[str, object]) -> None:
    quantizer = make_quantizer(**settings)
    tokens = quantizer.tokenize(LATENT)
    output = quantizer(LATENT)
    for index, expected in zip(output.tokens.indices, tokens.indices, strict=True):
        assert torch.equal(index, expected)
    assert torch.equal(output.tokens.structure_BL, tokens.structure_BL)
    torch.testing.assert_close(output.latent_BChw, quantizer.canvases(tokens)[:, -1])


@pytest.mark.parametrize("settings", VARIANTS)
@torch.no_grad()
def test_tokens_do_not_depend_on_the_batch(settings: dict[str, object]) -> None:
    quantizer = make_quantizer(**settings)
    alone, together = quantizer.tokenize(LATENT[2:]), quantizer.tokenize(LATENT)[2:]
    assert torch.equal(alone.structure_BL, together.structure_BL)
    for index, expected in zip(alone.indices, together.indices, strict=True):
        assert torch.equal(index, expected)


@settings(max_examples=25, deadline=None)
@given(
    latent=hnp.arrays(np.float32, (2, 6, 4, 4), elements=st.floats(-8, 8, width=32)),
    variant=st.sampled_from(VARIANTS),
)
@torch.no_grad()
def test_the_stages_add_up_to_the_quantized_latent(latent: np.ndarray, variant: dict[str, object]) -> None:
    """For any latent: the updates of all stages, each from its codes and its map, summed in float64."""
    quantizer = make_quantizer(**variant)
    quantized = quantizer(torch.from_numpy(latent))
    tokens = quantized.tokens
    structure_BSL = finest_to_stages(tokens.structure_BL, quantizer.stage_tokens)
    added = [quantizer.refine(tokens.indices[stage], structure_BSL[:, stage], stage).double() for stage in range(tokens.stages)]
    summed_BChw = torch.stack(added).sum(0).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(summed_BChw.float(), quantized.latent_BChw, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(quantizer.canvases(tokens)[:, -1], quantized.latent_BChw, rtol=1e-5, atol=1e-4)
    assert [len(row.unique()) for row in structure_BSL[0]] == [index.shape[1] for index in tokens.indices]


@torch.no_grad()
def test_canvases_before_each_stage_follow_from_the_updates() -> None:
    quantizer = make_quantizer()
    tokens = quantizer.tokenize(LATENT)
    before, _ = canvases_of(quantizer, tokens)
    assert before[:, 0].abs().max().item() == 0
    structure_BSL = finest_to_stages(tokens.structure_BL, quantizer.stage_tokens)
    for stage in range(1, tokens.stages):
        update = quantizer.refine(tokens.indices[stage - 1], structure_BSL[:, stage - 1], stage - 1)
        torch.testing.assert_close(before[:, stage - 1] + update, before[:, stage])


def test_commitment_scales_only_the_encoders_gradient() -> None:
    """Without commitment the latent gets no gradient; the codebook's is always the same."""
    gradients = []
    for commitment in (0.0, 0.5, 1.0):
        quantizer = make_quantizer(commitment=commitment)
        latent = LATENT.clone().requires_grad_()
        quantizer(latent).codebook_loss.backward()
        gradients.append((latent.grad, quantizer.codebook.weight.grad))
    assert gradients[0][0].abs().max().item() == 0
    torch.testing.assert_close(2 * gradients[1][0], gradients[2][0])
    torch.testing.assert_close(gradients[0][1], gradients[2][1])


def test_soft_gradients_reach_codes_that_were_not_chosen() -> None:
    reached = {}
    for soft in (False, True):
        quantizer = make_quantizer()
        quantizer(LATENT.clone().requires_grad_(), soft=soft).codebook_loss.backward()
        reached[soft] = int((quantizer.codebook.weight.grad.abs().sum(1) > 0).sum())
    assert reached[True] == 32 > reached[False]


def test_entropy_reaches_encoder_and_codebook() -> None:
    assert make_quantizer()(LATENT).entropy_loss is None
    quantizer = make_quantizer(entropy=True)
    latent = LATENT.clone().requires_grad_()
    output = quantizer(latent)
    assert output.entropy_loss is not None
    output.entropy_loss.backward()
    assert latent.grad.abs().max().item() > 0
    assert quantizer.codebook.weight.grad.abs().max().item() > 0


def test_autocast_does_not_reach_the_quantizer() -> None:
    quantizer = make_quantizer()
    expected = quantizer(LATENT)
    with torch.autocast("cpu", torch.bfloat16):
        output = quantizer(LATENT)
    assert output.latent_BChw.dtype == torch.float32
    assert torch.equal(output.latent_BChw, expected.latent_BChw)


def test_cluster_means() -> None:
    structure_BL = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1]])
    values = torch.arange(8.0).reshape(2, 4, 1)
    assert cluster_means(values, structure_BL, 2).squeeze(-1).tolist() == [[2.0, 1.0], [4.5, 6.5]]


def test_phi_sharing_and_strength() -> None:
    assert len(make_quantizer().refiners) == 5
    assert len(make_quantizer(phi_sharing="all").refiners) == 1
    quantizer = make_quantizer(phi_strength=0.0)
    tokens = quantizer.tokenize(LATENT)
    structure_BL = torch.zeros_like(tokens.structure_BL)
    expected = F.embedding(tokens.indices[0], quantizer.codebook_VC).expand(-1, 16, -1)
    assert torch.equal(quantizer.refine(tokens.indices[0], structure_BL, 0), expected)


def test_stage_tokens() -> None:
    assert stage_tokens(256, 2) == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert stage_tokens(64, 8) == (1, 8, 64)
    with pytest.raises(InputError, match="36 positions cannot be grouped by 2"):
        stage_tokens(36, 2)
    with pytest.raises(InputError, match="without a structure map"):
        make_quantizer().canvases(TokenSequence((torch.zeros(1, 1, dtype=torch.int64),)))
