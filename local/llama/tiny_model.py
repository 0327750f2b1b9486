"""A llama model of half a megabyte with random weights, in a GGUF file.

It says noise, one byte per token, and half characters too. A request makes the real server say
something particular all the same:

- `grammar` (GBNF) forces any text, with reasoning or without:
  `root ::= "<think>" "Hm" "</think>" "Hello"`.
- `logit_bias` calls a tool, or does not let the answer end: see `tokens.py`.

The same seed gives the same file, and so the same answers at temperature 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
from numpy.typing import NDArray

from local.llama.tokens import BYTES, CONTROL, MARKS, TEXTS, TOKEN_IDS, VOCABULARY

Weights: TypeAlias = NDArray[np.float32]

WIDTH, HIDDEN, HEADS = 64, 128, 4

TEMPLATE = Path(__file__).with_name("template.jinja")


def write_model(path: Path, *, context: int = 8192, layers: int = 2, seed: int = 1) -> None:
    """Write the model to `path`. `context` is the length that it claims to be trained for.

    With two layers it says some 5,000 tokens a second; with more, accordingly fewer.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny random llama")
    _add_shape(writer, context, layers)
    _add_vocabulary(writer)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))
    for name, weights in _tensors(np.random.default_rng(seed), layers):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, context: int, layers: int) -> None:
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = (
        (CONTROL, gguf.TokenType.CONTROL),
        (BYTES, gguf.TokenType.BYTE),
        (MARKS, gguf.TokenType.USER_DEFINED),
        (TEXTS, gguf.TokenType.NORMAL),
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list(VOCABULARY)
    writer.add_token_scores([0.0] * len(VOCABULARY))
    writer.add_token_types([kind for texts, kind in kinds for _ in texts])
    writer.add_unk_token_id(TOKEN_IDS["<unk>"])
    writer.add_pad_token_id(TOKEN_IDS["<|endoftext|>"])
    writer.add_bos_token_id(TOKEN_IDS["<|im_start|>"])
    writer.add_eos_token_id(TOKEN_IDS["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)


def _tensors(random: np.random.Generator, layers: int) -> Iterator[tuple[str, Weights]]:
    """Yield all weights by name.

    They are random, except that an answer ends after a tool call. For that, a dimension of its own
    carries only `</tool_call>`, from the embedding through all layers to `<|im_end|>`.
    """

    def normal(rows: int, columns: int) -> Weights:
        return random.normal(0.0, columns**-0.5, (rows, columns)).astype(np.float32)

    ones = np.ones(WIDTH, np.float32)
    yield "token_embd.weight", _only(normal(len(VOCABULARY), WIDTH).T, "</tool_call>").T
    for layer in range(layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", ones
        for part in ("attn_q", "attn_k", "attn_v"):
            yield f"{block}.{part}.weight", normal(WIDTH, WIDTH)
        yield f"{block}.attn_output.weight", _without_first(normal(WIDTH, WIDTH))
        yield f"{block}.ffn_norm.weight", ones
        yield f"{block}.ffn_gate.weight", normal(HIDDEN, WIDTH)
        yield f"{block}.ffn_up.weight", normal(HIDDEN, WIDTH)
        yield f"{block}.ffn_down.weight", _without_first(normal(WIDTH, HIDDEN))
    yield "output_norm.weight", ones
    yield "output.weight", _only(normal(len(VOCABULARY), WIDTH).T, "<|im_end|>").T


def _only(columns: Weights, token: str) -> Weights:
    """Let only one token have a part in the first dimension, a large one."""
    columns[0] = 0.0
    columns[0, TOKEN_IDS[token]] = 50.0
    return columns


def _without_first(rows: Weights) -> Weights:
    rows[0] = 0.0
    return rows
