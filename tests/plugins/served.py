"""What the tests of parity with servers share: rows, another template, and the check itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness_transformers.encoding import encode_row
from harness_transformers.models import load_tokenizer

from harness.engine.backends import BackendPool
from harness.engine.prepared import check_prepared
from harness.records import Candidate, Message, ParityCheck, TrainingRow
from tests.plugins.tiny import CHATML

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
WITH_SYSTEM = "{% if messages[0].role != 'system' %}" + SYSTEM + "{% endif %}" + CHATML
ROWS: tuple[tuple[tuple[tuple[str, str], ...], str], ...] = (
    ((("system", "Be short."), ("user", "How many slow requests?")), "42"),
    ((("user", "Name a colour of the sky."),), "blue"),
    ((("user", "first"), ("assistant", "one"), ("user", "then, Grüße ☃ \n")), "two"),
)


def prepare(folder: Path, path: Path) -> Path:
    """Write rows as a trainer prepares them with the tokenizer and template in `folder`."""
    tokenizer = load_tokenizer(folder)
    with path.open("w", encoding="utf-8") as out:
        for index, (turns, reply) in enumerate(ROWS):
            messages = tuple(Message(role=r, content=c) for r, c in turns)  # type: ignore[arg-type]
            row = TrainingRow(case_id=str(index), messages=messages, completion=reply)
            one = encode_row(tokenizer, row)
            said = [{"role": r, "content": c} for r, c in (*turns, ("assistant", reply))]
            plain = {"input_ids": one.input_ids, "labels": one.labels, "messages": said}
            out.write(json.dumps(plain) + "\n")
    return path


def with_template(folder: Path, template: str, *, under: Path) -> Path:
    """Return a model of the same files with another chat template."""
    made = under / folder.name
    made.mkdir()
    for file in folder.iterdir():
        if file.name != "chat_template.jinja":
            (made / file.name).symlink_to(file)
    (made / "chat_template.jinja").write_text(template, encoding="utf-8")
    return made


def check(
    pool: BackendPool, path: Path, *, base: Path | str, url: str, model: str, **more: Any
) -> ParityCheck:
    return check_prepared(
        path,
        base=Candidate(name="base", backend=f"local:{base}", artifact=more.pop("artifact", None)),
        runtime=Candidate(name="served", backend=f"openai:{model}", base_url=url),
        pool=pool,
        **more,
    )


def failed(found: ParityCheck) -> list[str]:
    return [f.name for f in found.findings if f.severity == "fail"]
