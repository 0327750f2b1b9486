"""OpenAI's API: requests, messages, answers, chunks and errors."""
