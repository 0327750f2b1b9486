"""Pandora-Next in proxy mode, the ChatGPT web `backend-api`, as an `Upstream`.

In the order the data flows: a job becomes a request (`payload`), which `client` posts. An answer
that is no event stream is judged (`refusals`, which finds the upstream's sentence with
`complaint`). A stream is cut into server-sent events (`sse`), decoded (`records`; operations of the
v1 encoding change `delta_encoding`'s documents) and turned into our events (`translation`, with a
`speech` for each message, which finds `markers` and their `citations`). What the upstream has to be
asked for stands among them as a value (`wanted`), until `downloads` puts the event in its place.
All but `client` and `downloads` is pure: values in, values out.
"""
