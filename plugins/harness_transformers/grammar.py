"""JSON schemas as masks over the next token (xgrammar). Knows nothing of models or requests."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from typing import Any

from harness import MissingExtra, UsageError


def why_no_grammar() -> str:
    """Return why no reply can be held to a schema here; "" where it can. Imports nothing."""
    if importlib.util.find_spec("xgrammar") is not None:
        return ""
    return "a schema needs xgrammar: pip install 'tuning-harness[grammar]'"


class Grammars:
    """Compiles schemas for one tokenizer, each once."""

    def __init__(self, tokenizer: Any, *, vocabulary: int, stops: frozenset[int]) -> None:
        if why_no_grammar():
            raise MissingExtra("a reply constrained to a JSON schema", extra="grammar")
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary, stop_token_ids=sorted(stops)
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=2)
        self._vocabulary = vocabulary
        self._stops = stops
        self._compiled: dict[str, Any] = {}

    def compile(self, schema: Any) -> Any:
        """Return the compiled grammar. Raises UsageError for a schema that it cannot hold to.

        Compact JSON and no free whitespace: a small model would fill its budget with blanks.
        """
        text = json.dumps(schema, ensure_ascii=False)
        if text not in self._compiled:
            try:
                self._compiled[text] = self._compiler.compile_json_schema(
                    text, any_whitespace=False, separators=(",", ":")
                )
            except (RuntimeError, ValueError) as exc:
                raise UsageError(
                    f"the JSON schema cannot be compiled to a grammar: {exc}. Simplify the schema, "
                    "or leave `schema` out of the prompt and check the reply in an eval."
                ) from exc
        return self._compiled[text]

    def bind(self, schema: Any, rows: int) -> Constraint:
        """Return a constraint for `rows` fresh rows."""
        return Constraint(
            self.compile(schema), rows=rows, vocabulary=self._vocabulary, stops=self._stops
        )


class Constraint:
    """The grammar state of the rows of one batch."""

    def __init__(self, compiled: Any, *, rows: int, vocabulary: int, stops: frozenset[int]) -> None:
        import xgrammar

        self._matchers = [xgrammar.GrammarMatcher(compiled) for _ in range(rows)]
        self._bitmask = xgrammar.allocate_token_bitmask(rows, vocabulary)
        self._stops = stops

    def mask(self, logits: Any) -> None:
        """Set the logits of tokens that the grammar forbids to minus infinity, in place."""
        import xgrammar

        for row, matcher in enumerate(self._matchers):
            if matcher.is_terminated():
                self._bitmask[row] = -1  # done, and only kept until its batch shrinks
            else:
                matcher.fill_next_token_bitmask(self._bitmask, row)
        bitmask = self._bitmask[: len(self._matchers)]
        xgrammar.apply_token_bitmask_inplace(logits, bitmask.to(logits.device))

    def accept(self, tokens: Sequence[int]) -> list[bool]:
        """Take the chosen tokens; tell for each row whether its JSON can only end now."""
        ended = []
        for row, (matcher, token) in enumerate(zip(self._matchers, tokens, strict=True)):
            if not matcher.is_terminated():
                matcher.accept_token(token)
            ended.append(matcher.is_terminated() or self._only_stops(matcher, row))
        return ended

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the rows at these indices only."""
        self._matchers = [self._matchers[row] for row in rows]

    def _only_stops(self, matcher: Any, row: int) -> bool:
        # Spares the step that would draw the stop id. A number could still grow: it waits.
        if not matcher.is_completed():
            return False
        matcher.fill_next_token_bitmask(self._bitmask, row)
        mask = self._bitmask[row].clone()
        for stop in self._stops:
            mask[stop // 32] &= ~(1 << (stop % 32)) if stop % 32 < 31 else 0x7FFFFFFF
        return not mask.any().item()
