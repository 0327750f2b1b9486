"""The HTTP side of the gateway, with OpenAI's API.

`front_end` puts a process together. `server` (routes, start and stop) passes a request to its
feature (`chat`, `images`), which decodes it (`openai.requests`), receives its files (`files`) and
submits it as a job (`line`). The events of the job are rendered as OpenAI's chunks
(`openai.chunks`).
"""
