"""Pandora-Next in proxy mode, the ChatGPT web `backend-api`, as an `Upstream`.

`factory` puts it together, and `backend` is the one way to call its API. In the order the data
flows: the job's files are uploaded and its GPT is found (`questions`), its question is encoded
(`payload`) and posted (`transport`). The answer's `body` is the response's own, or comes over a
WebSocket (`websocket/`). Any other response is a failure (`refusals`). The stream is translated
into our events (`translate/`), with placeholders in the place of images and files, which are
downloaded (`files/`). `client` does all this, and `deletions` has the conversations deleted
afterwards.
"""
