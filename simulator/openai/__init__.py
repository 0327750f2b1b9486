"""A stand-in for an OpenAI-compatible server: slots, every dialect of it, and its faults.

Start it with `python -m simulator --kind openai --port 8181`, or inside a process with
`simulator.openai.server.serve`. docs/simulator-openai.md lists endpoints, keys and counters.
"""
