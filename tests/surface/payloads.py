"""Texts that a model may say and a page must never run, and ways to put them into every field."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

OUT = "http://127.0.0.1:9/out"
RUN = "document.title='pwned';alert(1)"

PAYLOADS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"--><script>{RUN}</script>",
    f"<!--<script>{RUN}</script>",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f'<img src=x onerror="{RUN}">',
    f"<img src={OUT}>",
    f'"><img src=x onerror="{RUN}">',
    f"'><img src=x onerror='{RUN}'>",
    f'" onmouseover="{RUN}" autofocus onfocus="{RUN}" x="',
    f"' onfocus='{RUN}' autofocus tabindex='1",
    f"` onfocus={RUN} autofocus",
    f'<svg onload="{RUN}">',
    f"</svg><svg><script>{RUN}</script></svg>",
    f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s>',
    f"<svg><use href=\"data:image/svg+xml,<svg id='x' onload='{RUN}'/>#x\"/></svg>",
    f'<svg><foreignObject><iframe srcdoc="<script>parent.{RUN}</script>"></foreignObject></svg>',
    f'<iframe srcdoc="&lt;script&gt;top.{RUN}&lt;/script&gt;"></iframe>',
    f'<iframe src="javascript:top.{RUN}"></iframe>',
    f"<object data={OUT}></object><embed src={OUT}>",
    f"<link rel=stylesheet href={OUT}>",
    f"<style>@import '{OUT}';body{{background:url({OUT})}}</style>",
    f'<div style="background:url({OUT})">',
    f'<meta http-equiv=refresh content="0;url={OUT}">',
    f"<base href={OUT}/>",
    f'<form action={OUT}><input autofocus onfocus="{RUN}"></form>',
    f'<a href="javascript:{RUN}" id=island>x</a>',
    f'<details open ontoggle="{RUN}">',
    f'<video><source onerror="{RUN}"></video>',
    f'<body onload="{RUN}">',
    f'<math><mtext><mglyph><style><img src=x onerror="{RUN}"></style></mglyph></mtext></math>',
    f"<noscript><p title=\"</noscript><img src=x onerror='{RUN}'>\"></noscript>",
    f"<template><script>{RUN}</script></template><x-a id=rows class=case>",
    "{{7*7}}{% raw %}{{ config }}{% endraw %}${7*7}#{7*7}<%= 7*7 %>",
    "{% include 'report.js' %}{{ ''.__class__.__mro__ }}",
    f"\u2028{RUN}\u2029//\r\n{RUN}//",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e&lt;script&gt;{RUN}&lt;/script&gt;",
    f"\x00<\x00script>{RUN}</\x00script>\x0c\x1b]0;pwned\x07\ufeff\u202e</tpircs>",
    f"<scr\ud800ipt>{RUN}</scr\udfffipt>\ufffe",
)


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return `value` with every text in it changed: fields, keys and items, however deep."""
    if isinstance(value, str):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value,
            **{f.name: changed(getattr(value, f.name), change) for f in dataclasses.fields(value)},
        )
    if isinstance(value, Mapping):
        return {change(str(k)): changed(v, change) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(changed(v, change) for v in value)
    if isinstance(value, list):
        return [changed(v, change) for v in value]
    return value
