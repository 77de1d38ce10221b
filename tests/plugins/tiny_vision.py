"""A tiny vision-language model (LLaVA's plan) and pictures for it, made here: no downloads."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from tests.plugins.tiny import build_tiny_model

SIDE, PATCH = 16, 8
PLACES = (SIDE // PATCH) ** 2
"""Placeholder tokens of one picture."""
IMAGE = "<image>"
LLAVA = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{{ '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_vision_model(folder: Path, *, seed: int = 0, context: int = 256) -> Path:
    """Write a model that sees: two layers of language, one of vision, random weights."""
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    build_tiny_model(folder / "text")
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "text"))
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    tokenizer.chat_template = LLAVA
    for path in (folder / "text").iterdir():
        path.unlink()
    (folder / "text").rmdir()
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=size, do_resize=True),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=LLAVA,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
            initializer_range=0.2,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.save_pretrained(str(folder))
    processor.save_pretrained(str(folder))
    return folder


def picture(color: tuple[int, int, int], *, side: int = SIDE) -> str:
    """Return a picture of one colour as a `data:` URL."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (side, side), color).save(held, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
