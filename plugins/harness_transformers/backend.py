"""The `local:` backend: requests to replies on this machine. Knows nothing of cases or evals.

Requests in flight are answered in batches by one worker thread. Prompts that begin alike are
read once; rows that are done leave; replies are handed out batch by batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import BackendConfig, BackendError, Reply, Request, UsageError
from harness_transformers import attention, bases, encoding, models, tool_calls, vision
from harness_transformers.artifacts import parts_of
from harness_transformers.batcher import Batcher, Pending
from harness_transformers.facts import KeptFacts, identity_of
from harness_transformers.generate import Row, generate
from harness_transformers.grammar import Grammars, why_no_grammar
from harness_transformers.plan import (
    Ask,
    Batch,
    digest_of,
    has_images,
    kind_of,
    plan,
    room_tokens,
)
from harness_transformers.prepared import read_rows
from harness_transformers.probing import greedy_steps
from harness_transformers.quantised import check_quantisation
from harness_transformers.sampling import random_source
from harness_transformers.sessions import GenericSession, PicturedSession, Session, SharedSession
from harness_transformers.troubles import explained

_OPTIONS = {
    "batch_rows": 64,
    "dtype": None,
    "memory_gb": 2.0,
    "chat_template": None,
    "chat_template_kwargs": None,
}
_LEAST_PREFIX = 8
_PICTURED_ROWS = 8
"""Rows with images that are answered at once: what a tower makes of them is not small."""
_PREFIXES_KEPT = 4


class LocalBackend:
    """Answers with a model on this machine. `BackendConfig.options`:

    * `batch_rows` (64): the most rows in one batch;
    * `memory_gb` (2.0): about how much keys, values and scores of a batch may take;
    * `dtype`: `float32`, `bfloat16` or `float16` (default: what the hardware does best);
    * `chat_template`: for a base model without one, `plain` (the turns' texts, a blank line after
      each) or the text of a Jinja template. Without it a base model is refused. It goes on until
      `max_tokens` or a `stop`. An artifact carries the template that it was trained with.
    * `chat_template_kwargs`: what the template is told, as `{ enable_thinking = false }`. Tuners of
      this model render with it too.

    Tools are taken where the model's chat template shows them to it. Calls are read out of a reply
    where its tokenizer has a `response_template`; without one they stay in the reply's text.

    Images are taken by a vision-language model with its processor (the extra `vision`); they are
    shown after their turn's text.
    """

    concurrency = 512
    # A request's clock starts when it is queued: the last of a thousand waits for the others.
    timeout_s = 24 * 3600.0
    is_external = False

    def __init__(self, config: BackendConfig) -> None:
        models.require_local("the local: backend")
        unknown = sorted(set(config.options) - set(_OPTIONS))
        if unknown:
            raise UsageError(
                f"local:{config.model} has no options {unknown}; it knows {sorted(_OPTIONS)}"
            )
        self._options = {**_OPTIONS, **config.options}
        self._name = config.model
        base = models.find_model(config.model, cache_dir=config.cache_dir)
        self._parts = parts_of(base, config.artifact, name=config.model)
        check_quantisation(self._parts.model)
        if self._parts.adapter is not None:
            models.check_peft()
        shown = {name: self._options[name] for name in ("chat_template", "chat_template_kwargs")}
        self._kept = KeptFacts(self._parts, options=shown, tokenizer=lambda: self._tokenizer)
        self._batcher: Batcher[tuple[Request, Ask], Reply] = Batcher(
            self._answer_round, name=f"local:{config.model}"
        )
        self._prefixes: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    # ------------------------------------------------------------ what it is

    @property
    def _dtype(self) -> str:
        return str(self._options["dtype"] or self._kept.facts.dtype)

    @cached_property
    def honours(self) -> frozenset[str]:
        """What it obeys; tools depend on the model's chat template, others on what is installed."""
        tools = {"tools"} if self._kept.facts.shows_tools else set()
        lacked = {name for name, why in self.honours_hint.items() if why}
        return frozenset({"schema", "seed", "stop", "images"} - lacked | tools)

    @cached_property
    def honours_hint(self) -> Mapping[str, str]:
        """Why a schema or images are not taken, said with the refusal."""
        return {
            "schema": why_no_grammar(),
            "images": vision.why_blind(has_processor=bool(self._kept.facts.processor)),
        }

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What can change an answer besides the request."""
        is_quantised = check_quantisation(self._parts.model) is not None
        return identity_of(
            self._parts, self._kept.facts, dtype=self._dtype, is_quantised=is_quantised
        )

    def ready(self) -> None:
        """Import what answers. Raises BackendError where the identity is no longer true."""
        if self._parts.adapter is not None:
            models.require_peft()
        self._kept.check()

    def token_ids(self, request: Request) -> Sequence[int]:
        """Return the ids that `answer` would send to the model."""
        return encoding.prompt_ids(self._tokenizer, request.messages, tools=request.tools)

    def pixel_digest(self, request: Request) -> str:
        """Return the sha256 of what the request's images become; "" without any."""
        return vision.pixel_digest(self._seen(request).tensors)

    def _seen(self, request: Request) -> vision.Seen:
        return encoding.prompt_seen(self._tokenizer, request.messages, tools=request.tools)

    def stop_ids(self) -> frozenset[int]:
        """Return the ids at which generation ends."""
        return self._stops

    def special_ids(self) -> frozenset[int]:
        """Return the ids of control tokens, which no text of a user should become."""
        added = self._tokenizer.added_tokens_decoder
        marked = {i for i, token in added.items() if getattr(token, "special", False)}
        return frozenset(marked | set(self._tokenizer.all_special_ids))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens shown."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def encode(self, text: str, *, with_specials: bool = False) -> Sequence[int]:
        """Return the ids of `text` alone; control tokens in it are read as such, or as text."""
        ids = self._tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=not with_specials
        )
        return [int(i) for i in ids]

    def pad_id(self) -> int | None:
        """Return the id of padding, where there is one."""
        pad: int | None = self._tokenizer.pad_token_id
        return pad

    def chat_template(self) -> str | None:
        """Return the source of the chat template."""
        text = self._tokenizer.chat_template
        return text if isinstance(text, str) else None

    def greedy_logprobs(
        self, request: Request, *, tokens: int, top: int
    ) -> tuple[Sequence[Any], Mapping[str, Any] | None]:
        """Return what the model thought of its greedy reply, token by token, and of the token that
        ended it, None where none did.

        Not for answering: one request at a time, in the thread of the caller.
        """
        import torch

        self.ready()
        ids = tuple(self.token_ids(request))
        ask = Ask(index=0, ids=ids, new_tokens=tokens, digest=digest_of(ids, request))
        base, adapter = self._base
        with base.wearing(adapter), torch.inference_mode():
            return greedy_steps(
                self._session(Batch(asks=(ask,), prefix=0), [request]),
                steps=tokens,
                top=top,
                stops=self._stops,
                decode=self.decode,
            )

    def read_rows(self, folder: Path) -> Iterator[Mapping[str, Any]]:
        """Yield the rows of a folder of the datasets library."""
        return read_rows(folder)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = models.load_tokenizer(self._parts.tokenizer, model=self._parts.model)
        if self._options["chat_template"] is not None:
            encoding.use_template(tokenizer, self._options["chat_template"])
        encoding.use_kwargs(tokenizer, self._options["chat_template_kwargs"])
        return tokenizer

    @cached_property
    def _stops(self) -> frozenset[int]:
        config = models.load_generation_config(self._parts.model)
        return encoding.stop_ids(self._tokenizer, config)

    @cached_property
    def _base(self) -> tuple[bases.Base, Path | None]:
        parts = self._parts
        return bases.shared_base(parts.model, dtype=self._dtype, adapter=parts.adapter)

    @property
    def _model(self) -> Any:
        return self._base[0].model

    @cached_property
    def _is_shared(self) -> bool:
        return self._base[0].is_shared

    @cached_property
    def _context(self) -> int | None:
        config = models.load_config(self._parts.model)
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    def context_tokens(self) -> int | None:
        """Return how many tokens a prompt and its reply may have together, where it is known."""
        return self._context

    @cached_property
    def _grammars(self) -> Grammars:
        vocabulary = models.load_config(self._parts.model).get_text_config().vocab_size
        return Grammars(self._tokenizer, vocabulary=vocabulary, stops=self._stops)

    # ------------------------------------------------------------ answering

    async def answer(self, request: Request) -> Reply:
        """Return the reply, once the batch that it travels in is done.

        Raises BackendError, systemic where the prompt does not fit the model's context.
        """
        self.ready()
        ids = tuple(self.token_ids(request))
        room = request.decoding.max_tokens
        if self._context is not None:
            room = min(room, self._context - len(ids))
            if room < 1:
                raise BackendError(
                    f"the prompt has {len(ids)} tokens; local:{self._name} holds {self._context}, "
                    "reply included. Shorten the prompt or use fewer examples.",
                    is_systemic=True,
                )
        if request.schema is not None:
            self._grammars.compile(request.schema)  # what is wrong with it is said to its asker
        ask = Ask(index=0, ids=ids, new_tokens=room, digest=digest_of(ids, request))
        try:
            return await asyncio.wrap_future(self._batcher.submit((request, ask)))
        except RuntimeError as exc:
            raise BackendError(f"local:{self._name} stopped: {exc}") from exc

    def close(self) -> None:
        """Stop the worker and let go of the model."""
        self._batcher.close()
        self._prefixes.clear()
        for name in ("_base", "_grammars"):
            self.__dict__.pop(name, None)

    def _answer_round(self, round_: Sequence[Pending[tuple[Request, Ask], Reply]]) -> None:
        """Answer all that was gathered, batch by batch."""
        alike: dict[str, list[int]] = {}
        for index, pending in enumerate(round_):
            alike.setdefault(kind_of(pending.ask[0]), []).append(index)
        memory_gb = float(self._options["memory_gb"])
        room = room_tokens(self._model.config, dtype=self._dtype, memory_gb=memory_gb)
        for kind in sorted(alike):
            asks = [
                Ask(index=i, ids=a.ids, new_tokens=a.new_tokens, digest=a.digest)
                for i, a in ((i, round_[i].ask[1]) for i in alike[kind])
            ]
            rows = int(self._options["batch_rows"])
            is_pictured = has_images(round_[asks[0].index].ask[0])
            for batch in plan(
                asks,
                rows=min(rows, _PICTURED_ROWS) if is_pictured else rows,
                tokens=room,
                shares_prefix=self._is_shared and not is_pictured,
            ):
                going = [round_[ask.index] for ask in batch.asks]
                if self._is_abandoned(going):
                    for pending in going:
                        pending.future.cancel()
                else:
                    self._answer_batch(batch, going)

    def _answer_batch(
        self, batch: Batch, going: Sequence[Pending[tuple[Request, Ask], Reply]]
    ) -> None:
        import torch

        began = time.monotonic()
        request = going[0].ask[0]
        rows = [
            Row(
                new_tokens=ask.new_tokens,
                source=random_source(pending.ask[0].decoding, ask.digest),
            )
            for ask, pending in zip(batch.asks, going, strict=True)
        ]
        schema = request.schema
        try:
            base, adapter = self._base
            # other candidates may share the base: a batch is of one adapter, from end to end
            with base.wearing(adapter), torch.inference_mode():
                generate(
                    self._session(batch, [pending.ask[0] for pending in going]),
                    rows,
                    decoding=request.decoding,
                    stops=self._stops,
                    decode=self._reply_text,
                    constraint=None if schema is None else self._grammars.bind(schema, len(rows)),
                    is_cancelled=lambda: self._is_abandoned(going),
                )
        except (MemoryError, torch.OutOfMemoryError, RuntimeError) as exc:
            error = explained(exc, name=self._name, rows=len(rows), options=self._options)
            for pending in going:
                if not pending.future.done():
                    pending.future.set_exception(error)
            return
        share_s = (time.monotonic() - began) / len(rows)
        for pending, row, ask in zip(going, rows, batch.asks, strict=True):
            if not row.finish_reason or not pending.future.set_running_or_notify_cancel():
                pending.future.cancel()
                continue
            text, calls = self._read(pending.ask[0], row, ask)
            pending.future.set_result(
                Reply(
                    text=text,
                    tool_calls=calls,
                    finish_reason=row.finish_reason,
                    input_tokens=len(ask.ids),
                    output_tokens=len(row.ids),
                    latency_s=share_s,
                    model=f"local:{self._name}",
                )
            )

    def _read(self, request: Request, row: Row, ask: Ask) -> tuple[str, tuple[Any, ...]]:
        """Return the text of a reply and, where tools were offered, its calls."""
        read = request.tools and tool_calls.read_reply(
            self._tokenizer, row.ids, prompt_ids=ask.ids, tools=request.tools
        )
        return read or (row.text, ())

    def _session(self, batch: Batch, requests: Sequence[Request]) -> Session:
        prompts = [ask.ids for ask in batch.asks]
        pad_id = 0 if self._tokenizer.pad_token_id is None else self._tokenizer.pad_token_id
        if any(map(has_images, requests)):
            # made anew here, so that a queue of a thousand holds no pixels
            seen = [self._seen(request) for request in requests]
            return PicturedSession(self._model, seen, pad_id=pad_id)
        if not self._is_shared:
            return GenericSession(self._model, prompts, pad_id=pad_id)
        length = batch.prefix if batch.prefix >= _LEAST_PREFIX else 0
        return SharedSession(
            self._model,
            [ids[length:] for ids in prompts],
            room=max(ask.new_tokens for ask in batch.asks),
            pad_id=pad_id,
            prefix=self._prefix(prompts[0][:length]) if length else None,
        )

    def _prefix(self, ids: tuple[int, ...]) -> Any:
        """The memory of a shared prefix, kept for the batches that follow."""
        if ids not in self._prefixes:
            self._prefixes[ids] = attention.read_prefix(self._model, list(ids))
        self._prefixes.move_to_end(ids)
        while len(self._prefixes) > _PREFIXES_KEPT:
            self._prefixes.popitem(last=False)
        return self._prefixes[ids]

    def _reply_text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _is_abandoned(self, going: Sequence[Pending[tuple[Request, Ask], Reply]]) -> bool:
        return self._batcher.is_closed or all(pending.future.cancelled() for pending in going)
