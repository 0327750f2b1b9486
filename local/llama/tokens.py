"""Vocabulary of the tiny model: the bytes, the marks of a chat, and hardly a text.

Tests name its tokens in `logit_bias`, to make the random model say something particular.
"""

CONTROL = ["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MARKS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
TEXTS = ["\u2581", "e"]  # the tokenizer wants some; "\u2581" is a space
VOCABULARY = [*CONTROL, *BYTES, *MARKS, *TEXTS]

TOKEN_IDS = {text: number for number, text in enumerate(VOCABULARY)}
"""Ids of all tokens by their text."""

_SPACES = ("<0x20>", "<0x0A>", "<0x09>", "<0x0D>", "\u2581")

CALL_BIAS = {
    **{str(TOKEN_IDS[text]): -100 for text in _SPACES},
    str(TOKEN_IDS["<tool_call>"]): 100,
    str(TOKEN_IDS["</tool_call>"]): 50,  # as one token, not as its bytes
}
"""`logit_bias` that makes a request with `tools` call one; then the answer ends by itself.

The server's grammar forces the form. Parameters have to be enumerations, numbers or booleans: a
free text would go on until `max_tokens`.
"""

ENDLESS_BIAS = {
    str(TOKEN_IDS[text]): -100 for text in ("<|im_end|>", "<|endoftext|>", "</tool_call>")
}
"""`logit_bias` with which an answer goes on until `max_tokens`."""
