"""Pandora-Next in proxy mode, the ChatGPT web `backend-api`, as an `Upstream`.

In the order the data flows: a job becomes a request (`payload`), which `client` posts in a
`session`. The answer's `body` is the response's, or comes over a WebSocket (`handover`, then
`sockets`, each a `socket` with its `frames` and `mailbox`; `stopping` ends it). An answer that is
neither is judged (`refusals`, which finds the upstream's sentence with
`complaint`). A stream is cut into server-sent events (`sse`), decoded (`records`; operations of the
v1 encoding change `delta_encoding`'s documents) and turned into our events (`translation`, with a
`speech` for each message, which finds `markers` and their `citations`). What the upstream has to be
asked for stands among them as a value (`wanted`), until `downloads` puts the event in its place.
All but `client`, `session`, `body`, `mailbox`, `socket`, `sockets`, `stopping` and `downloads` is
pure: values in, values out.
"""
