"""Models that see: pictures opened, placed, batched and answered, on tiny models made here."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from harness_transformers.backend import LocalBackend
from harness_transformers.encoding import encode_row, prompt_ids
from harness_transformers.models import load_model, load_tokenizer
from harness_transformers.sessions import PicturedSession
from harness_transformers.vision import Seen, joined, open_picture, sees

from harness import BackendConfig, BackendError, Decoding, Message, Request, TrainingRow, UsageError
from harness.engine.backends import describe
from tests.plugins.tiny_vision import IMAGE, PLACES, build_tiny_vision_model, picture
from tests.plugins.tuning import single_thread

RED, BLUE = picture((230, 20, 10)), picture((10, 20, 230), side=40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_vision_model(tmp_path_factory.mktemp("vision") / "tiny-llava")


def asked(text: str, *images: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text, images=images),)


def replies(backend: LocalBackend, prompts: Sequence[tuple[Message, ...]]) -> list[str]:
    async def go() -> list[str]:
        requests = [Request(messages=p, decoding=Decoding(max_tokens=5)) for p in prompts]
        return [r.text for r in await asyncio.gather(*map(backend.answer, requests))]

    with single_thread():
        return asyncio.run(go())


def opened(folder: Path, **more: Any) -> LocalBackend:
    return LocalBackend(BackendConfig(model=str(folder), options={"dtype": "float32"}, **more))


def test_replies_to_images_are_those_of_the_library_in_any_company(base: Path) -> None:
    import torch
    from transformers import AutoProcessor

    prompts = [asked("Which?", RED), asked("Which one is it then?", BLUE), asked("None here?"),
               asked("Both of them?", RED, BLUE)]  # fmt: skip
    backend = opened(base)
    try:
        together = replies(backend, prompts)
        alone = [replies(backend, [p])[0] for p in prompts]
        assert "images" in backend.honours
    finally:
        backend.close()
    assert together == alone
    model, processor = load_model(base, dtype="float32"), AutoProcessor.from_pretrained(str(base))
    for messages, reply in zip(prompts, together, strict=True):
        parts: list[dict[str, Any]] = [{"type": "text", "text": messages[0].content}]
        parts += [{"type": "image", "image": open_picture(i)} for i in messages[0].images]
        made = processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            out = model.generate(**made, max_new_tokens=5, do_sample=False, pad_token_id=2)
        new = out[0, made["input_ids"].shape[1] :]
        assert processor.tokenizer.decode(new, skip_special_tokens=True) == reply


def test_where_pictures_have_rows_and_columns_the_positions_are_the_models_own() -> None:
    """Qwen2-VL's plan, without its processor: that one wants torchvision for its videos."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    shape = {"patch_size": 4, "temporal_patch_size": 2}
    look = Qwen2VLImageProcessorPil(**shape, merge_size=2, min_pixels=64, max_pixels=4096)

    def seen(text: list[int], *urls: str) -> Seen:
        made = look(images=[open_picture(u) for u in urls], return_tensors="pt")
        ids, types = [], []
        for grid in made["image_grid_thw"]:
            places = int(grid.prod()) // 4
            ids += [5, *[7] * places, 6]
            types += [0, *[1] * places, 0]
        kinds = torch.tensor([[*types, *[0] * len(text)]])
        return Seen(ids=(*ids, *text), tensors={**made, "mm_token_type_ids": kinds})

    with torch.random.fork_rng(), single_thread(), torch.inference_mode():
        torch.manual_seed(0)
        model = Qwen2VLForConditionalGeneration(
            Qwen2VLConfig(
                vision_config={**shape, "depth": 1, "embed_dim": 32, "hidden_size": 64,
                               "num_heads": 2, "spatial_merge_size": 2, "mlp_ratio": 2},
                text_config={"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96,
                             "num_hidden_layers": 2, "num_attention_heads": 4,
                             "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
                             "initializer_range": 0.3,
                             "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                 "mrope_section": [2, 3, 3]}},
                image_token_id=7, video_token_id=8, vision_start_token_id=5,
                vision_end_token_id=6,
            )
        ).eval()  # fmt: skip
        model.generation_config.eos_token_id = None
        rows = [seen([10, 11, 12], RED), seen([13] * 9, BLUE, RED), seen([14], BLUE)]
        session = PicturedSession(model, rows, pad_id=0)
        logits, drawn = session.start(), [[] for _ in rows]
        live = [0, 1, 2]
        for step in range(5):
            if step == 3:
                session.keep(
                    [1, 2]
                )  # rows that are done leave, and the others stand where they did
                live, logits = [1, 2], logits[1:]
            tokens = logits.argmax(-1).tolist()
            for row, token in zip(live, tokens, strict=True):
                drawn[row].append(token)
            logits = session.step(tokens)
        for row, ours in zip(rows, drawn, strict=True):
            ids = torch.tensor([row.ids])
            whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                   **row.tensors, max_new_tokens=5, do_sample=False)  # fmt: skip
            assert whole[0, ids.shape[1] :].tolist()[: len(ours)] == ours


def test_a_row_holds_places_for_its_pictures_and_says_by_a_digest_what_they_become(
    base: Path,
) -> None:
    tokenizer = load_tokenizer(base)
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    rows = [
        TrainingRow(case_id=name, messages=asked("Which?", *images), completion="red")
        for name, images in (("r", [RED]), ("b", [BLUE]), ("two", [RED, BLUE]), ("none", []))
    ]
    red, blue, two, none = (encode_row(tokenizer, row) for row in rows)
    assert [r.input_ids.count(image_id) for r in (red, blue, two, none)] == [
        PLACES, PLACES, 2 * PLACES, 0,
    ]  # fmt: skip
    assert red.input_ids == blue.input_ids
    assert len({red.pixels, blue.pixels, two.pixels, none.pixels}) == 4
    assert none.pixels == ""
    backend = opened(base)
    for row, one in zip(rows, (red, blue, two, none), strict=True):
        request = Request(messages=row.messages)
        served = list(backend.token_ids(request))
        assert served == list(one.input_ids[: len(served)])
        assert all(label == -100 for label in one.labels[: len(served)])
        assert tokenizer.decode([i for i in one.labels if i >= 0]) == "red<|im_end|>\n"
        assert backend.pixel_digest(request) == one.pixels


def test_text_is_rendered_the_same_with_and_without_a_picture_beside_it(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    plain, seen = (prompt_ids(tokenizer, asked("Gr\u00fc\u00dfe, 42!", *i)) for i in ([], [RED]))
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    assert [i for i in seen if i != image_id] == plain
    assert "Gr\u00fc\u00dfe, 42!" in tokenizer.decode(plain)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "https://example.org/a.png",
            "is not `data:image/...;base64,...` but 'https://example.org",
        ),
        ("data:image/png;base64,iVBORw0KG*", "is not whole base64"),
        ("data:image/png;base64,aGVsbG8gd29ybGQ=", "of 11 bytes cannot be opened"),
        (RED[: len("data:image/png;base64,") + 60], "of 45 bytes cannot be opened"),
    ],
)
def test_what_is_no_picture_is_told_with_its_row(base: Path, url: str, why: str) -> None:
    row = TrainingRow(case_id="c7", messages=asked("Which?", url), completion="red")
    with pytest.raises(BackendError) as told:
        encode_row(load_tokenizer(base), row)
    assert str(told.value).startswith("row c7: an image ")
    assert why in str(told.value)
    assert told.value.case_ids == ("c7",)
    assert not told.value.is_systemic


def test_a_model_of_text_refuses_images_and_says_what_would_take_them(
    tiny_model_dir: Path,
) -> None:
    backend = opened(tiny_model_dir)
    assert "images" not in backend.honours
    refusal = describe(backend, name="local:tiny").refuse(Request(messages=asked("Which?", RED)))
    assert "does not honour images (images need a vision-language model" in str(refusal)
    with pytest.raises(UsageError, match="sees no images, and 1 were given"):
        backend.token_ids(Request(messages=asked("Which?", RED)))


def test_a_text_that_writes_the_placeholder_is_refused(base: Path) -> None:
    with pytest.raises(BackendError, match="a user turn holds '<image>', a control token"):
        prompt_ids(load_tokenizer(base), asked(f"Look: {IMAGE}"))


def test_a_template_without_a_place_for_images_is_told(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = (
        "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(BackendError, match="image"):
        prompt_ids(tokenizer, asked("Which?", RED))


def test_another_processor_is_another_identity_and_other_pixels(base: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = other / "processor_config.json"
    plain = json.loads(config.read_text())
    plain["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    config.write_text(json.dumps(plain))
    one, two = opened(base), opened(other)
    request = Request(messages=asked("Which?", RED))
    assert one.token_ids(request) == two.token_ids(request)
    assert one.pixel_digest(request) != two.pixel_digest(request)
    assert one.identity["processor"] != two.identity["processor"]
    assert one.identity["weights"] == two.identity["weights"]
    config.unlink()
    assert not sees(other)


def test_pictures_of_other_sizes_are_filled_up_as_processors_do(base: Path) -> None:
    """Idefics3's plan: a picture in tiles, as many as it needs."""
    import torch

    model = load_model(base, dtype="float32")
    one = Seen(ids=(1, 2), tensors={"pixel_values": torch.ones(1, 3, 3, 4, 4),
                                    "token_type_ids": torch.tensor([[0, 1]])})  # fmt: skip
    two = Seen(ids=(1,), tensors={"pixel_values": torch.ones(1, 1, 3, 4, 2),
                                  "token_type_ids": torch.tensor([[1]])})  # fmt: skip
    made = joined([one, None, two], starts=[1, 0, 2], width=3, model=model)
    assert made["pixel_values"].shape == (2, 3, 3, 4, 4)
    assert made["pixel_values"][1].sum() == 3 * 4 * 2
    assert made["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]
