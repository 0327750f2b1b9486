"""An OpenAI-compatible server, such as llama.cpp, Ollama or vLLM, as an `Upstream`.

In the order the data flows: the client's request goes out almost as it was written (`request`),
over one session per server (`connection`). The messages of the answer are relayed as they were
written, too: a dialect (`dialects/`) only observes when an answer says something, ends or fails,
and `answer` makes the one ending of that. Errors in any shape (`error_object`, `pause`) have
consequences for the job (`judgement`). `survey` asks a server for its models and slots, and
`server` does all this.
"""
