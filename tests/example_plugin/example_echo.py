"""A backend that echoes, a tuner that teaches it answers by heart, and a check for capitals."""

import json

from harness import Miss, PreparedRow, Reply, TrainResult, hookimpl


def ids_of(messages):  # its token ids are code points, and 0 ends a reply
    return [ord(c) for m in messages for c in f"{m.role}: {m.content}\n"]


def prepared(row, a, b):  # the prompt, which no loss sees, and the reply
    return PreparedRow(case_id=row.case_id, input_ids=(*a, *b), labels=(*[-100] * len(a), *b))


class Echo:
    def __init__(self, config):
        known = config.artifact and (config.artifact / "known.json").read_text()
        self.known = json.loads(known or "{}")

    def answer(self, request):
        asked = request.messages[-1].content
        return Reply(text=self.known.get(asked, asked))

    def token_ids(self, request):
        return ids_of(request.messages)

    def stop_ids(self):
        return {0}

    def decode(self, ids):
        return "".join(map(chr, ids))


class ByHeart:
    def prepare(self, job):
        return [prepared(r, ids_of(r.messages), [*map(ord, r.completion), 0]) for r in job.rows]

    def train(self, job, rows, *, report):
        known = {row.messages[-1].content: row.completion for row in job.rows}
        (job.out_dir / "known.json").write_text(json.dumps(known))
        return TrainResult(base_digest="", template_digest="", metrics={}, environment={})


def capitals(reply):
    if not reply.text.isupper():
        raise Miss(f"{reply.text!r} is not in capitals")


@hookimpl
def harness_backends():
    return {"echo": Echo}


@hookimpl
def harness_tuners():
    return {"by-heart": ByHeart}


@hookimpl
def harness_checks():
    return {"capitals": capitals}
