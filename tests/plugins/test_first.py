def test_x(tiny_model_dir):

    from harness_transformers.encoding import encode_row, prompt_ids, stop_ids
    from harness_transformers.models import (
        load_model,
        load_tokenizer,
        template_digest,
        tokenizer_digest,
        weights_digest,
    )

    from harness import Message, TrainingRow
    t = load_tokenizer(tiny_model_dir)
    m = load_model(tiny_model_dir)
    print(m.dtype, weights_digest(tiny_model_dir), template_digest(t), tokenizer_digest(t))
    ids = prompt_ids(t, [Message(role="user", content="How many?")])
    print(ids, t.convert_ids_to_tokens(ids), repr(t.decode(ids)))
    print(encode_row(t, TrainingRow(case_id="a", messages=(Message(role="user", content="How many?"),), completion="42")))
    print(stop_ids(t, m), len(t))
