"""Pandora-Next in proxy mode, the ChatGPT web `backend-api`, as an `Upstream`.

In the order the data flows: a job becomes a request (`payload`), which `client` posts. An answer
that is no event stream is judged (`refusals`, which finds the upstream's sentence with
`complaint`). A stream is cut into server-sent events (`sse`), decoded (`records`) and turned into
our events (`translation`). All but `client` is pure: values in, values out.
"""
