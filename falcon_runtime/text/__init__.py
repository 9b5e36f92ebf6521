"""From text to tokens and back: tokenizers, prompts in the model's own chat template, and the ends of answers."""
