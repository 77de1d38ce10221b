from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Reply, UsageError, checks

Reason = Callable[..., str]
PAGE = """<!DOCTYPE html>
<html lang="en"><head><title>a < b</title><style>p > a { }</style></head>
<body><!-- <b> --><p>One<p>Two<br><img src="x.png"/>
<ul><li>a<li>b</ul><my-box><svg><path d="M0"/></svg></my-box>
<table><tr><td>1<td>2</table>
<script>if (a < b) { "</b>" }</script></body></html>
"""


@pytest.mark.parametrize("text", [PAGE, "<p>hi</p>", " <DIV>x</div>\n", "<hr>", "<ul><li>a</ul>"])
def test_html_is_well_formed_in_the_way_of_html(text: str) -> None:
    assert checks.html(text)
    assert checks.contains_html(f"Here: {text} Done.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "does not begin and end with a tag"),
        ("<p>hi</p> there", "does not begin and end with a tag"),
        ("<answer>42</answer>", "no element of HTML: <answer> at line 1 column 1"),
        ("<div>\n <b>x</i></div>", "</i> at line 2 column 6 closes nothing; <b> is open"),
        ("<div><p>x</p>", "<div> at line 1 column 1 is never closed"),
        ("</p>", "closes nothing"),
        ("<!-- only -->", "no element in"),
        ("", "does not begin"),
    ],
)
def test_what_is_no_html_says_where(text: str, said: str, reason: Reason) -> None:
    assert said in reason(checks.html, text)
    assert checks.no.html(text)


def test_html_is_found_within_words(reason: Reason) -> None:
    text = "Use <b>bold</b> and <br> but not <i>this, if a < b > c"
    assert checks.contains_html(text)
    assert checks.contains_html(text, ["B", "br"])
    assert "<i> is not in" in reason(checks.contains_html, text, ["b", "i"])
    assert "an element of HTML is not in" in reason(checks.contains_html, "a <answer>x</answer>")
    assert checks.no.contains_html("x < y and y > z, a<b")


def test_an_xml_element_is_found_within_words(reason: Reason) -> None:
    text = "I think <a>so <b>it</a> is. <answer n='1'>4 <i>2</i></answer> That is <e/>."
    assert "<answer n" in checks.contains_xml(text).reason
    assert checks.contains_xml(text, root="i")
    assert checks.contains_xml(text, root="e")
    assert "no element <c>" in reason(checks.contains_xml, text, root="c")
    said = reason(checks.contains_xml, text, root="a")
    assert "no element <a>" in said
    assert "not XML" in said
    assert checks.no.contains_xml("1 < 2 > 0")
    assert checks.no.contains_xml("<a>&undefined;</a>")


@pytest.mark.parametrize(
    "text",
    [
        "Sure:\n```sql\nselect a from t\n```\nThat is it.",
        "```\nselect a from t\n```",
        "Here it is:\n\nSELECT a\nFROM t;\n\nIt selects a.",
        "with x as (select 1) select a from t",
    ],
)
def test_sql_is_found_within_words(text: str) -> None:
    (tree,) = checks.contains_sql(text, tables=["t"])
    assert tree.key == "select"


def test_no_sql_or_other_tables_is_a_miss(reason: Reason) -> None:
    assert "no SQL in" in reason(checks.contains_sql, "Please select your seat")
    said = reason(checks.contains_sql, "select a from t", tables=["u"])
    assert "tables ['t'] are not of ['u']" in said
    said = reason(checks.contains_sql, "```sql\ndrop table t\n```", kinds="select")
    assert "a 'drop' statement" in said
    assert checks.no.contains_sql("nothing of the kind")


def test_gleu_is_what_nltk_computes(reason: Reason) -> None:
    """Values of nltk 3.10.4 `sentence_gleu`, on the same lower-case words."""
    said = "It is a guide to action which ensures that the military always obeys the commands"
    first = "It is a guide to action that ensures that the military will forever heed commands"
    second = "It is the guiding principle which guarantees the military forces always obeying"
    assert checks.gleu(said, first, at_least=0).value == pytest.approx(GLEU[0], abs=1e-9)
    assert checks.gleu(said, second, at_least=0).value == pytest.approx(GLEU[1], abs=1e-9)
    assert checks.gleu(said, [second, first], at_least=0).value == pytest.approx(GLEU[0])
    assert checks.gleu(said, said).value == 1
    assert checks.gleu("", first, at_least=0).value == 0
    assert "is under at_least=0.5" in reason(checks.gleu, said, second)
    with pytest.raises(UsageError, match="no word to expect"):
        checks.gleu(said, "...")


GLEU = (0.5370370370370371, 0.16666666666666666)


def test_a_reply_has_a_perplexity_where_its_log_probabilities_are_known(reason: Reason) -> None:
    rows = tuple({"token": "a", "logprob": p, "top": []} for p in (-1.0, -3.0))
    reply = Reply(text="aa", logprobs=rows)
    assert checks.perplexity(reply, 7.39).reason == "perplexity 7.389 over 2 tokens"
    assert "is over 7" in reason(checks.perplexity, reply, 7)
    worst = Reply(text="a", logprobs=({"token": "a", "logprob": -1e9},))
    assert "is over 10" in reason(checks.perplexity, worst, 10)


@pytest.mark.parametrize("row", [{}, {"logprob": None}, {"logprob": float("-inf")}, 3])
def test_an_unknown_log_probability_is_no_measurement(row: object) -> None:
    from harness.checks.base import Unmeasured

    for logprobs in ((), (row,), ({"logprob": -1.0}, row)):
        with pytest.raises(Unmeasured, match="reported no log probability"):
            checks.perplexity(Reply(text="x", logprobs=logprobs), 5)
    with pytest.raises(Unmeasured, match="reported no first_token_s"):
        checks.first_token(Reply(text="x"), 1)


def test_the_first_token_may_not_come_late(reason: Reason) -> None:
    reply = Reply(text="x", first_token_s=0.25)
    assert checks.first_token(reply, 0.3)
    assert "0.250 s is over 0.2 s" in reason(checks.first_token, reply, 0.2)
