"""Small random models and their tokenizers. Apart from the fixtures, for to import this takes seconds."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the special tokens of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=CHAT_TEMPLATE)


class AnyHeads(LlamaConfig):
    """Of any number of heads; else the hidden size has to be a multiple of them."""

    def validate_architecture(self) -> None:
        pass


def small_llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A random Llama that takes a second to export; its logits are spread enough for clear greedy choices."""
    torch.manual_seed(seed)
    values: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 2,
        "vocab_size": 320,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
        "eos_token_id": 256,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(AnyHeads(**values | changes)).eval()


def save_checkpoint(llama: LlamaForCausalLM, folder: Path) -> None:
    """The model with the small tokenizer as a Hugging Face folder, also where its hidden size is no multiple of its
    heads, which transformers does not save."""
    heads, llama.config.num_attention_heads = llama.config.num_attention_heads, 1
    llama.save_pretrained(folder)
    llama.config.num_attention_heads = heads
    settings = json.loads((folder / "config.json").read_text()) | {"num_attention_heads": heads}
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    small_tokenizer().save_pretrained(folder)
