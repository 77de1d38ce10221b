"""What the backends that speak HTTP have in common. Knows no API, and registers nothing.

The client, keys, addresses and the wording of failures are shared by `harness_openai`,
`harness_anthropic` and `harness_apps`: a key that leaks, or a 429 that is read wrongly, must not
be mended three times. libcurl is loaded when something is first sent.
"""
