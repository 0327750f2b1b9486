"""The HTTP side: knows OpenAI's dialect and Sanic.

A request goes through `server` (routes, headers, what goes wrong) to its feature (`chat`), is
decoded (`dialect`), becomes a job and waits (`line`); its events come back and are rendered into
OpenAI's chunks (`completion`).
"""
