"""A stand-in for a Pandora-Next server: the ChatGPT web `backend-api`, scripted.

Start it with `python -m simulator --port 8181`, or inside a process with `simulator.server.serve`.
docs/simulator.md lists its endpoints and every key of its scripts.
"""
