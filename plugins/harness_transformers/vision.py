"""Models that see: pictures to what the model's own processor makes of them, and batches of that.

Knows nothing of requests, rows or trainers. A text with pictures becomes ids in which a picture
stands as placeholder tokens, and tensors (pixel values and their like). Nothing of that is kept
with a row: the same pictures give the same tensors again, when a batch needs them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import BackendError, MissingExtra, UsageError

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""What a processor is read from, besides the tokenizer: a model without either sees nothing."""
_MORE_FILES = ("video_preprocessor_config.json", "chat_template.json")
_EYES = "harness_eyes"
_DATA = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)
_OF_TEXT = frozenset({"input_ids", "attention_mask"})
_PROBE = "harness probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A text with its pictures, as a model takes it. Shapes: each tensor is of a batch of one."""

    ids: tuple[int, ...]
    tensors: Mapping[str, Any]


def sees(folder: Path) -> bool:
    """Tell whether a model folder holds a model that is shown text and pictures, and its processor.

    Reads no weights.
    """
    return loads_as_vision(folder) and any((folder / name).is_file() for name in PROCESSOR_FILES)


def loads_as_vision(folder: Path) -> bool:
    """Tell whether the weights of a model folder are those of a language model with a tower."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(config, dict) or "vision_config" not in config:
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return config.get("model_type") in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def has_pillow() -> bool:
    """Tell whether pictures can be opened here."""
    return importlib.util.find_spec("PIL") is not None


def why_blind(*, has_processor: bool) -> str:
    """Return why a model takes no images here, by whether it has a processor; "" where it does."""
    if not has_processor:
        return "images need a vision-language model with its processor beside the weights"
    return "" if has_pillow() else "images need Pillow: pip install 'tuning-harness[vision]'"


def use_eyes(tokenizer: Any, folder: Path) -> None:
    """Let everything that is rendered with `tokenizer` show pictures, where the model sees.

    A chat template that stands in the processor's own older file is taken over.
    """
    if not sees(folder):
        return
    older = folder / "chat_template.json"
    if not tokenizer.chat_template and older.is_file():
        tokenizer.chat_template = json.loads(older.read_text(encoding="utf-8"))["chat_template"]
    setattr(tokenizer, _EYES, Eyes(tokenizer, folder))


def eyes_of(tokenizer: Any) -> Eyes | None:
    """Return how the tokenizer's model sees; None where it does not."""
    found: Eyes | None = getattr(tokenizer, _EYES, None)
    return found


class Eyes:
    """A model's processor, read when the first picture is shown."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self._tokenizer = tokenizer
        self.folder = folder

    @cached_property
    def wants_parts(self) -> bool:
        """Whether the chat template reads a turn's content as parts, and not as one text."""
        import jinja2

        turns = [{"role": "user", "content": [{"type": "text", "text": _PROBE}]}]
        try:
            text = str(self._tokenizer.apply_chat_template(turns, tokenize=False))
        except (jinja2.TemplateError, TypeError):
            return False
        return _PROBE in text and "'type'" not in text

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """The writings of control tokens, the picture's placeholder among them."""
        added = self._tokenizer.added_tokens_decoder.values()
        marks = {str(token.content) for token in added if getattr(token, "special", False)}
        marks.add(str(self._tokenizer.convert_ids_to_tokens(self.image_id)))
        return tuple(sorted(marks - {"None", ""}))

    @cached_property
    def image_id(self) -> int | None:
        """The id that stands where a picture is, by the model's configuration."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        names = ("image_token_id", "image_token_index")
        return next((int(config[n]) for n in names if config.get(n) is not None), None)

    def digest(self) -> str:
        """Return the sha256 of what the processor is read from."""
        whole = hashlib.sha256()
        for name in (*PROCESSOR_FILES, *_MORE_FILES):
            if (self.folder / name).is_file():
                whole.update(f"{name} ".encode() + (self.folder / name).read_bytes())
        return whole.hexdigest()

    def look(self, text: str, images: Sequence[str]) -> Seen:
        """Return a rendered text and its pictures (`data:` URLs) as the model takes them.

        Raises BackendError where a picture cannot be opened, or the text has no place for it.
        """
        pictures = [open_picture(url) for url in images]
        try:
            # The template wrote what stands before a text; the tokenizer must not do so again.
            made = self._processor(
                text=[text], images=[pictures], add_special_tokens=False, return_tensors="pt"
            )
        except (ValueError, TypeError, IndexError, RuntimeError) as exc:
            raise BackendError(
                f"the processor of {self.folder} refuses a prompt with images ({len(images)}): "
                f"{exc}"
            ) from exc
        ids = tuple(int(i) for i in made["input_ids"][0])
        if self.image_id is not None and self.image_id not in ids:
            raise BackendError(
                f"the chat template of {self.folder} shows none of the prompt's images: it has "
                "no place for parts of type `image`. Use the template that came with the model."
            )
        tensors = {k: v for k, v in made.items() if k not in _OF_TEXT and hasattr(v, "shape")}
        return Seen(ids=ids, tensors=tensors)

    @cached_property
    def _processor(self) -> Any:
        if not has_pillow():
            raise MissingExtra(f"showing images to {self.folder}", extra="vision")
        from transformers import AutoProcessor

        from harness_transformers.models import quiet_transformers

        try:
            with quiet_transformers():
                processor = AutoProcessor.from_pretrained(
                    str(self.folder), local_files_only=True, trust_remote_code=False
                )
        except ImportError as exc:  # of a video processor, most likely
            raise UsageError(
                f"the processor of {self.folder} needs more than Pillow: {exc}"
            ) from exc
        except (OSError, ValueError) as exc:
            raise UsageError(f"the processor of {self.folder} cannot be read: {exc}") from exc
        processor.tokenizer = self._tokenizer  # an artifact's, perhaps
        return processor


def open_picture(url: str) -> Any:
    """Return the picture in a `data:` URL, upright and in three colours, as transformers loads one.

    Raises BackendError that says what is wrong with it, MissingExtra without Pillow.
    """
    if not has_pillow():
        raise MissingExtra("opening an image", extra="vision")
    from PIL import Image, ImageOps

    found = _DATA.fullmatch(url)
    if found is None:
        raise _no_picture(f"is not `data:image/...;base64,...` but {url[:40]!r}")
    try:
        content = base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error as exc:
        raise _no_picture(f"is not whole base64: {exc} ({url[:40]!r})") from exc
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise _no_picture(f"of {len(content)} bytes cannot be opened: {exc}") from exc


def _no_picture(why: str) -> BackendError:
    return BackendError(f"an image {why}")


def pixel_digest(tensors: Mapping[str, Any]) -> str:
    """Return the sha256 of what pictures became; "" of none."""
    if not tensors:
        return ""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {plain.dtype} {tuple(plain.shape)} ".encode())
        whole.update(plain.numpy().tobytes())
    return whole.hexdigest()


def joined(
    rows: Sequence[Seen | None], *, starts: Sequence[int], width: int, model: Any
) -> dict[str, Any]:
    """Return the tensors of `rows` as those of one batch, `width` tokens wide, on the model's
    device; row n begins at token `starts[n]`, and None is a row without pictures.

    What belongs to tokens is put where they stand, zero elsewhere; all else is stacked, filled up
    with zeros as processors do where pictures differ in size.
    """
    import torch

    seen = [row for row in rows if row is not None]
    out: dict[str, Any] = {}
    for name in sorted({name for row in seen for name in row.tensors}):
        held = [(at, row) for at, row in enumerate(rows) if row is not None and name in row.tensors]
        first = held[0][1].tensors[name]
        if tuple(first.shape[:2]) == (1, len(held[0][1].ids)):
            whole = torch.zeros((len(rows), width, *first.shape[2:]), dtype=first.dtype)
            for at, row in held:
                whole[at, starts[at] : starts[at] + len(row.ids)] = row.tensors[name][0]
        else:
            whole = _stacked([row.tensors[name] for _, row in held])
        if whole.is_floating_point():
            whole = whole.to(model.dtype)
        out[name] = whole.to(model.device)
    return out


def _stacked(tensors: Sequence[Any]) -> Any:
    import torch

    sizes = [max(t.shape[d] for t in tensors) for d in range(1, tensors[0].ndim)]
    filled = []
    for one in tensors:
        pads = [n for d in range(one.ndim - 1, 0, -1) for n in (0, sizes[d - 1] - one.shape[d])]
        filled.append(torch.nn.functional.pad(one, pads) if any(pads) else one)
    return torch.cat(filled)


def copy_processor(source: Path, folder: Path) -> None:
    """Put what a processor is read from beside weights that were made of those in `source`."""
    if not sees(source):
        return
    for name in (*PROCESSOR_FILES, *_MORE_FILES):
        # an older template would be a second one: the tokenizer's is saved
        if name != "chat_template.json" and (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def language_layers(model: Any) -> str | None:
    """Return the name of the language model within one that sees; None for any other."""
    if getattr(model.config, "vision_config", None) is None:
        return None
    decoder = model.get_decoder()
    return next((name for name, module in model.named_modules() if module is decoder), None)
