"""Fixtures of other sizes in the layout of the shipped ones, computed by the code under test.

They do not test parity, but that no size is hard-coded and that one altered number is found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvgbench_baselines.var.checkpoint import tokenizer_names, transformer_to_published
from nvgbench_baselines.var.config import ScaleConfig, VarModelConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer
from nvgbench_baselines.var.transformer import VarTransformer

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.schema import TokenizerConfig
from nvgbench.interfaces import Verification
from nvgbench.nvg.checkpoint import to_published_key
from nvgbench.nvg.config import GranularityConfig, NvgModelConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.tokenizer import PUBLISHED_NAMES
from nvgbench.parity.arithmetic import Arithmetic
from nvgbench.parity.fixture import Fixture
from nvgbench.parity.ledger import Check, Comparison, Ledger

Arrays = dict[str, np.ndarray]


class Recorder(Ledger):
    """Writes recomputed arrays into the fixture instead of checking them."""

    def settle(self, comparison: Comparison) -> Check:
        assert comparison.ours.shape == comparison.reference.shape, comparison.name
        if comparison.reference.flags.writeable:
            comparison.reference[...] = comparison.ours
        return Check(comparison.name, "pass", comparison.part)


def record(verification: Verification, facts: dict[str, Any], arrays: Arrays, folder: Path, name: str) -> Path:
    """Fill the placeholders in ``arrays`` and write the fixture; in rounds, because some arrays depend on others."""
    for _ in range(3):
        verification.verify(Recorder(Fixture(name, facts, arrays), Arithmetic(torch.device("cpu")), verification.tolerance))
    return write(facts, arrays, folder / f"{name}.json")


def write(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """A fixture on disk."""
    listing = {key: {"shape": list(array.shape), "dtype": str(array.dtype)} for key, array in arrays.items()}
    path.write_text(json.dumps({**facts, "arrays": listing}))
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    return path


def _zeros(shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32") -> Arrays:
    return {name: np.zeros(shape, dtype=dtype) for name, shape in shapes.items()}


def var_template() -> tuple[dict[str, Any], Arrays]:
    """Depth 3, width 48, 48 codes of which 16 columns are kept, 12 px, scales 1, 2, 3, two phi shared, rows left out."""
    rng = np.random.default_rng(5)
    scales, channels, codes, classes, width = (1, 2, 3), 8, 48, 7, 48
    length, rows = 14, [0, 1, 4, 5, 9, 13]
    sizes = TokenizerConfig(
        base_channels=32, channel_multipliers=(1, 2, 1), attention=True, quant_convs=True,
        latent_channels=channels, codebook_size=codes, decoder_blocks=2, encoder_blocks=1,
    )  # fmt: skip
    config = ScaleConfig(scales=scales, phi_convs=2)
    with torch.device("meta"):
        tokenizer = ConvTokenizer(sizes, (3, 3), ScaleQuantizer(config, codes, channels, (3, 3)))
        transformer = VarTransformer(
            VarModelConfig(depth=3, heads=3, head_size=16, mlp_ratio=2),
            scales=scales, channels=channels, codebook_size=codes, num_classes=classes,
        )  # fmt: skip
    published = tokenizer_names(config).to_published(tokenizer.state_dict())
    facts = {
        "config": {
            "patch_nums": list(scales), "V": codes, "Cvae": channels, "ch": 32, "num_classes": classes, "depth": 3,
            "embed_dim": width, "num_heads": 3, "share_quant_resi": 2, "quant_resi": 0.5, "mlp_ratio": 2, "seed": 11,
        },
        "vae_state_dict": {key: list(value.shape) for key, value in published.items()},
        "var_state_dict": {key: list(value.shape) for key, value in transformer_to_published(transformer.state_dict()).items()},
        "filter_cases": [[0, 0.0], [4, 0.7]],
        "lowvar_probe": {"tensors_times_0.01": ["pos_start"]},
    }  # fmt: skip
    canvas, kept, tokens = (2, channels, 3, 3), (2, len(rows), 16), (2, length)
    arrays = {
        "img": rng.uniform(-1, 1, (2, 3, 12, 12)).astype(np.float32),
        "label_B": np.array([6, 2], dtype=np.int32),
        "rows": np.array(rows, dtype=np.int32),
        "filter_in": rng.standard_normal((2, 3, codes)).astype(np.float32),
        **_zeros({
            "enc_out": canvas, "f": canvas, "idx_margin_BL": tokens, "fhats": (3, *canvas), "x_BLCv": (2, length - 1, channels),
            "rec_img": (2, 3, 12, 12), "logits_rows": kept, "logits_lse": tokens, "logits_at_target": tokens, "ce_BL": tokens,
            "uncond_logits_rows": (2, 3, 16), "lowvar_logits_rows": kept, "grad/head.bias": (codes,),
            "ar_fhat": canvas, "ar_img": (2, 3, 12, 12), "ar_next_maps": (2, channels, length - 1), "ar_logits_cfg_rows": kept,
            "ar_cfg2.5_fhat": canvas, "rng3_fhat": canvas, "rng3_smooth_fhat": canvas, "smooth_top1_fhat": canvas,
            "filter_probs_1": (2, 3, codes), "sched_1_3_fhat": canvas, "embed_to_fhat_progressive": canvas,
            "vqtrain_fhat": canvas, "vqtrain_loss_grad_f": canvas, "vqtrain_rec": (2, 3, 12, 12),
            **{f"act_block{block}": (2, len(rows), width) for block in range(3)},
        }),
        **_zeros({
            "idx_BL": tokens, "logits_argmax": tokens, "ar_tokens": tokens, "ar_cfg2.5_tokens": tokens, "rng3_tokens": tokens,
            "rng3_smooth_tokens": tokens, "smooth_top1_tokens": tokens, "sched_1_3_idx": (2, 10),
        }, "int32"),
    }  # fmt: skip
    return facts, arrays


def nvg_template() -> tuple[dict[str, Any], Arrays]:
    """Depth 3, widths 48 and 24 in heads of 24, 40 codes of which 20 columns are kept, 4x4 positions, 8 px, 5 classes."""
    rng = np.random.default_rng(6)
    layout, channels, codes, classes = StageLayout((4, 4)), 6, 40, 5
    stages, length, count, clusters = layout.stages, 16, layout.channels, 31
    sizes = TokenizerConfig(base_channels=32, channel_multipliers=(1, 2), encoder_blocks=1, decoder_blocks=2,
                            latent_channels=channels, codebook_size=codes)  # fmt: skip
    with torch.device("meta"):
        model = NvgModelConfig(depth=3, head_size=24, content_heads=2, structure_heads=1, mlp_ratio=2)
        generator = NvgGenerator(model, layout, channels=channels, codebook_size=codes, num_classes=classes)
        tokenizer = ConvTokenizer(sizes, (4, 4), GranularityQuantizer(GranularityConfig(), codes, channels, (4, 4)))
    state = {str(to_published_key(key)): list(value.shape) for key, value in generator.state_dict().items()}
    autoencoder = {key: list(value.shape) for key, value in PUBLISHED_NAMES.to_published(tokenizer.state_dict()).items()}
    guidance = {"content_cfg": np.linspace(1, 2, stages).tolist(), "structure_cfg": np.linspace(1, 3, stages).tolist()}
    facts = {"config": {
        "B.odd.": {"n_e": 33, "e_dim": 5, "v_patch_nums": list(layout.tokens), "beta": 0.5, "quant_resi": 0.25,
                   "share_quant_resi": 1, "seed": 4},
        "C.base32_8px.": {"base_ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "embed_dim": channels, "n_embed": codes,
                          "v_patch_nums": list(layout.tokens), "seed": 2, "state_dict": autoencoder},
        "D": {"depth": 3, "vocab_size": codes, "num_classes": classes, "num_tokens": list(layout.tokens), "mlp_ratio": 2,
              "seed": 9, "state_dict": state},
        "D.sample_cfg.": {"n": 2, "cfg": True, "top_k": 1, **guidance},
    }}  # fmt: skip

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    sample, latent, packed = "D.sample_cfg.", (2, channels, 4, 4), (2, stages, length, channels + 2)
    arrays = {
        "A.small_16x3.points": normal(2, 16, 3), "A.image_flat_16x3.points": normal(1, 16, 3), "B.odd.z": normal(3, 5, 4, 4),
        "C.base32_8px.image": rng.uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32), "D.latent": normal(*latent),
        "D.class": np.array([4, 0]), "D.epsilon": normal(2, 1, length, count), "D.u": normal(2, stages - 2, 1, 1),
        "D.step.noise": np.tanh(normal(2, length, count)), f"{sample}noise": np.tanh(normal(2, length, count)),
        f"{sample}class": np.array([1, 3]), "E.t": rng.random(3).astype(np.float32), "E.filter_logits": normal(2, 3, codes),
        "E.scale_factors": np.array([1, 3, 2.5, 2, 1.5, 1.2], dtype=np.float32),
        "E.rope_content_pos": np.array([0, 1, 7, 16], dtype=np.int16), "E.rope_structure_pos": np.array([0, 16, 17, 32]),
        "E.split2.labels": np.arange(16, dtype=np.int16)[None] // 4, "E.split2.scores": normal(1, 16),
        "E.split2.uniform": rng.random((1, 4, 4)).astype(np.float32),
        **_zeros({
            "A.small_16x3.labels": (2, 5, 16), "A.small_16x3.raw": (2, 5, 16), "A.image_flat_16x3.labels": (1, 5, 16),
            "A.image_flat_16x3.raw": (1, 5, 16), "B.odd.indices": (3, clusters), "B.odd.smooth.indices": (3, clusters),
            "C.base32_8px.nvg_index_label": (2, stages, length, 2), "D.content_argmax": (2, clusters),
            "D.structure_target": (2, length, count), f"{sample}structure": (2, stages, length),
            f"{sample}content": (2, stages, length), "D.step.content": (2, stages, length),
            "D.step.next_structure": (2, stages - 1, length), "E.struct_feat_stage3": (2, length, count),
            "E.struct_feat_all": (2, stages, length, count), "E.rope_ids": (length + 1, count + 3), "E.split2.next": (1, 16),
            "E.split2.next_gumbel": (1, 16), "E.filter_k9_p0.6_keep": (2, 3, codes),
        }, "int16"),
        **_zeros({
            "B.odd.f_hat": (3, 5, 4, 4), "B.odd.vq_loss": (), "B.odd.vq_losses": (stages,), "B.odd.grad_z": (3, 5, 4, 4),
            "B.odd.grad_emb": (33, 5), "B.odd.nvg_input_output": (3, stages, length, 7), "B.odd.smooth.grad_z": (3, 5, 4, 4),
            "C.base32_8px.latent": latent, "C.base32_8px.decoded_pre_clamp": (2, 3, 8, 8), "D.nvg_input_output": packed,
            "D.final_target": (2, length, channels), "D.x0_hat": (2, stages, length, channels), "D.loss": (),
            "D.structure_x0": (2, stages - 2, length, count), "D.content_logits": (2, clusters, 20),
            "D.loss_terms": (stages, 4),
            f"{sample}canvas": (2, stages, length, channels), f"{sample}scores": (2, stages - 1, length),
            f"{sample}logits": (2, clusters, 20), "D.step.canvas": (2, stages, length, channels),
            "D.step.scores": (2, stages - 1, length), "D.step.x0_hat_stage2": (2, length, channels),
            "E.schedule_7_16": (8,), "E.top_p_1_0.25_5": (5,), "E.timestep_embedding_32": (3, 32),
            "E.rope_content": (4, 12, 2, 2), "E.rope_structure": (4, 12, 2, 2), "E.loss_weight": (stages,),
            "E.loss_weight_structure": (stages - 2,),
        }),
    }  # fmt: skip
    return facts, arrays
