"""A tuned model as one GGUF file, for llama.cpp and what is built on it: Llama architectures only.

llama.cpp's converter is a script of its repository and in no package; this is the part of it that
one family needs. Precisions are those that the library `gguf` writes by itself; its k-quants
(Q4_K_M, ...) are made by llama.cpp's `llama-quantize` from an f16 file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import BackendError, MissingExtra, VariantJob, VariantResult
from harness_transformers import GGUF_TYPES, encoding, models
from harness_transformers.gguf_vocab import add_vocabulary, cannot, token_list
from harness_transformers.merging import Whole, fingerprint, versions, whole_model
from harness_transformers.wheels import WHEELS, gguf_of

_TEMPLATE = "tokenizer.chat_template"
# Written anew: they depend on what is in this file, or name another model.
_OWN = {"general.file_type", "general.quantization_version", "general.architecture", _TEMPLATE}
_NAMES = {"general.name", "general.finetune", "general.organization", "general.basename"}


def make_gguf(job: VariantJob, *, form: str) -> VariantResult:
    """Write `gguf/model-TYPE.gguf` and `fingerprint.json`.

    Raises UsageError for another architecture or tokenizer, with llama.cpp's own command.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("a GGUF file", extra="gguf")
    whole = whole_model(job)
    _refuse_others(whole)
    kind = form.removeprefix("gguf-")
    folder = job.out_dir / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model-{kind}.gguf"
    notes = _write(path, whole, job, kind=kind)
    _check(path, whole)
    fingerprint(job, whole, variant=form)
    return VariantResult(
        template_digest=models.template_digest(whole.tokenizer),
        metrics={"bytes": float(path.stat().st_size)},
        environment=versions(),
        notes=notes,
    )


def _refuse_others(whole: Whole) -> None:
    config = whole.model.config
    if config.model_type != "llama":
        raise cannot(f"its architecture is {config.model_type!r}, and only 'llama' is written here")
    if not isinstance(whole.tokenizer.chat_template or "", str):
        raise cannot("it has several chat templates, and one is written")
    if getattr(whole.model.model.rotary_emb, "attention_scaling", 1.0) != 1.0:
        raise cannot("its rotary positions scale attention too")


# ---------------------------------------------------------------- writing


def _write(path: Path, whole: Whole, job: VariantJob, *, kind: str) -> tuple[str, ...]:
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    copied = _copy_fields(writer, whole, job)
    if not copied:
        _add_shape(writer, whole)
        stops = encoding.stop_ids(whole.tokenizer, models.load_generation_config(whole.parts.model))
        size = whole.model.get_input_embeddings().weight.shape[0]
        add_vocabulary(writer, whole.tokenizer, size=size, stops=sorted(stops))
    if whole.tokenizer.chat_template:
        writer.add_chat_template(whole.tokenizer.chat_template)
    kept = 0
    for name, data in _tensors(whole):
        wanted = _precision(name, data, kind=kind)
        kept += wanted.name != kind.upper() and data.ndim > 1
        writer.add_tensor(name, gguf.quants.quantize(data, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    notes = [f"{kept} tensors are in a finer precision than {kind}"] if kept else []
    if copied:
        notes.append("vocabulary and settings are those of the base's own GGUF file")
    return tuple(notes)


_FILE_TYPES = {"f32": "ALL_F32"} | {t: f"MOSTLY_{t.upper()}" for t in GGUF_TYPES if t != "f32"}


def _precision(name: str, data: Any, *, kind: str) -> Any:
    """Return what a tensor is written in: norms whole, and the table of words (which is the last
    layer too, where they are tied) never below eight bits."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type

    if data.ndim < 2:
        return Type.F32
    wanted = Type[kind.upper()]
    if name in ("token_embd.weight", "output.weight") and kind[:2] in ("q4", "q5"):
        wanted = Type.Q8_0
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if data.shape[-1] % block == 0 else Type.F16


def _tensors(whole: Whole) -> Iterator[tuple[str, Any]]:
    import gguf
    import numpy as np

    config = whole.model.config
    heads = config.num_attention_heads
    key_heads = config.num_key_value_heads or heads
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    table = whole.model.get_input_embeddings().weight
    factors = _rotary_factors(whole)
    if factors is not None:
        yield "rope_freqs.weight", factors
    for name, tensor in whole.model.state_dict().items():
        if name == "lm_head.weight" and tensor.data_ptr() == table.data_ptr():
            continue  # tied: llama.cpp takes the table of words
        goal = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if goal is None:
            raise cannot(f"it has the tensor {name}, which a Llama in GGUF has not")
        data = tensor.detach().float().numpy()
        # A head's rotary pairs lie half a head apart in transformers, side by side in llama.cpp.
        if ".q_proj." in name:
            data = _interleaved(data, heads)
        elif ".k_proj." in name:
            data = _interleaved(data, key_heads)
        yield goal, np.ascontiguousarray(data)


def _interleaved(data: Any, heads: int) -> Any:
    parts = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:])
    return parts.swapaxes(1, 2).reshape(data.shape)


def _rotary_factors(whole: Whole) -> Any:
    """Return by what llama.cpp divides each rotary frequency, None where by nothing."""
    import numpy as np

    used = whole.model.model.rotary_emb.inv_freq.detach().float().numpy().astype(np.float64)
    exponents = np.arange(len(used), dtype=np.float64) / len(used)
    factors = _theta(whole.model.config) ** -exponents / used
    return None if np.allclose(factors, 1.0, rtol=1e-4) else factors.astype(np.float32)


def _theta(config: Any) -> float:
    return float(config.rope_parameters["rope_theta"])


def _add_shape(writer: Any, whole: Whole) -> None:
    config = whole.model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_theta(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(whole.model.get_input_embeddings().weight.shape[0])


def _copy_fields(writer: Any, whole: Whole, job: VariantJob) -> bool:
    """Copy what the base's GGUF says of itself. False where the base came as no such file, or the
    artifact has another vocabulary."""
    import gguf

    if job.base not in WHEELS or whole.parts.model != whole.base:
        return False
    reader = gguf.GGUFReader(str(gguf_of(WHEELS[job.base])))
    fields = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    size = whole.model.get_input_embeddings().weight.shape[0]
    tokens, _ = token_list(whole.tokenizer, size=size)
    is_llama = fields["general.architecture"].contents() == "llama"
    if not is_llama or fields["tokenizer.ggml.tokens"].contents() != tokens:
        return False
    for name, field in fields.items():
        if name not in _OWN | _NAMES:
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    return True


# ---------------------------------------------------------------- reading back


def _check(path: Path, whole: Whole) -> None:
    """Raise BackendError where the file does not say what was to be written."""
    import gguf

    reader = gguf.GGUFReader(str(path))
    field = reader.fields.get(_TEMPLATE)
    if (field.contents() if field else "") != (whole.tokenizer.chat_template or ""):
        raise BackendError("the chat template in the GGUF file is not the artifact's: not kept")
    wanted = {name: data.shape for name, data in _tensors(whole)}
    found = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
    if found != wanted:
        raise BackendError("the GGUF file holds other tensors than were written: not kept")
